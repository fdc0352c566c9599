//! What a connection holds on to.

use crate::{
    drain,
    limits::{Place, UserPlace},
};

/// What a connection holds on to as long as it is open.
pub struct Seat {
    /// When it leaves in a drain; until dropped, the drain waits for it.
    pub leave: drain::Connection,
    /// Its place on the replica and of its address.
    pub _place: Place,
    /// Its place among its user's.
    pub user: Option<UserPlace>,
}
