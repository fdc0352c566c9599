//! The principal: who a connection acts for.

use crate::auth::Identity;

/// Who a connection acts for.
#[derive(Clone, Debug)]
pub(crate) enum Principal {
    /// A user whose claims are known. They may be those of `auth.anonymous`.
    User(Identity),
    /// The public: the endpoint grants its channels to everyone (`auth.public_runs`).
    Public,
    /// Not known yet: nothing is granted until a token arrives.
    Pending,
}

impl Principal {
    /// The identity, if it is known.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Principal::User(identity) => Some(identity),
            Principal::Public | Principal::Pending => None,
        }
    }

    /// Whether a token would identify the connection, rather than refresh its identity.
    pub(crate) fn is_unidentified(&self) -> bool {
        match self {
            Principal::User(identity) => identity.anonymous,
            Principal::Public => false,
            Principal::Pending => true,
        }
    }
}
