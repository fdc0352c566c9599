//! Who is at the other end of a connection.

use crate::auth::Identity;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Somebody whose claims are known.
    User(Identity),
    /// Anybody: the endpoint grants its channels to all (`auth.public_runs`).
    Public,
    /// Somebody who has yet to say it: until then nothing is granted.
    Pending,
}

impl Principal {
    /// The claims, where they are known.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Principal::User(identity) => Some(identity),
            Principal::Public | Principal::Pending => None,
        }
    }

    /// Whether a token makes him somebody, rather than going on as who he was.
    pub fn is_unidentified(&self) -> bool {
        match self {
            Principal::User(identity) => identity.anonymous,
            Principal::Public => false,
            Principal::Pending => true,
        }
    }
}
