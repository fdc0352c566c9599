//! What a connection holds on to.

use crate::{
    drain,
    limits::{ConnectionPermit, UserPermit},
    stats::EndpointName,
};

/// What a connection holds on to as long as it is open.
pub struct Admission {
    /// When it leaves in a drain; until dropped, the drain waits for it.
    pub leave: drain::DrainGuard,
    /// Its place on the replica and of its address.
    pub _place: ConnectionPermit,
    /// By which endpoint it came, as the figures name it.
    pub endpoint: EndpointName,
    /// Its place among its user's.
    pub user: Option<UserPermit>,
}
