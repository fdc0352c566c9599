//! The permits that a connection holds while it is open.

use crate::{
    drain,
    limits::{ClientKey, ConnectionPermit, UserPermit},
    stats::EndpointName,
};

/// The permits of one connection, held until it is closed.
pub(crate) struct Admission {
    /// Says when the connection leaves in a drain. The drain waits until this guard is dropped.
    pub leave: drain::DrainGuard,
    /// Counts against the limits of the replica and of the client's address.
    pub _permit: ConnectionPermit,
    /// Slows down a client whose first message brings a refused token again and again.
    pub client: ClientKey,
    /// The endpoint, as usage reports name it.
    pub endpoint: EndpointName,
    /// Counts against the limit of the user; `None` without one.
    pub user: Option<UserPermit>,
}
