//! Authentication and authorisation: which identity a connection has, and what it may read.
//!
//! A request's credential ([`Presented`]) becomes an [`Identity`] ([`Auth::identify`]). Its grants and the directory
//! decide what it may read ([`Auth::may_read`], [`Auth::granted`]). Sockets ask again whenever [`Auth::changes`]
//! counts up.

mod access;
mod address;
mod change_signal;
mod claims;
mod credential;
mod directory;
mod error;
mod identity;
mod jwk_set;
mod jwks;
mod keys;
mod origin;
mod revocation;
mod service;
mod ticket;
mod token;

#[cfg(test)]
pub(crate) mod testing;

pub use address::{client_address, is_trusted, requested_host};
pub use credential::{Credential, Presented, TOKEN_SUBPROTOCOL};
pub use error::{AuthError, AuthSetupError, BadClaim};
pub use identity::{Grants, Identity, Ids, Patterns};
pub use keys::MIN_SECRET;
pub use origin::OriginPolicy;
pub use service::Auth;
pub use ticket::TICKET_TTL;
pub use token::{MAX_TOKEN, MintError, Verifier, mint};
