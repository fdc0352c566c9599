//! Who is at the other end of a connection.

use crate::auth::Identity;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Who {
    /// Somebody whose claims are known.
    Known(Identity),
    /// Anybody: the endpoint grants its channels to all (`auth.public_runs`).
    Anybody,
    /// Somebody who has yet to say it: until then nothing is granted.
    Stranger,
}

impl Who {
    /// The claims, where they are known.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Who::Known(identity) => Some(identity),
            Who::Anybody | Who::Stranger => None,
        }
    }

    /// Whether a token makes him somebody, rather than going on as who he was.
    pub fn is_nobody(&self) -> bool {
        match self {
            Who::Known(identity) => identity.anonymous,
            Who::Anybody => false,
            Who::Stranger => true,
        }
    }
}
