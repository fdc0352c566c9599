//! Authentication and authorisation: which identity a connection has, and what it may read.
//!
//! A request's credential ([`Presented`]) becomes an [`Identity`] ([`Auth::identify`]). Its grants and the directory
//! decide what it may read ([`Auth::grant`], [`Auth::granted`]). Sockets ask again whenever [`Auth::changes`]
//! counts up.

mod access;
mod address;
mod change_signal;
mod claims;
mod credential;
mod default_claims;
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

pub(crate) use access::Grant;
pub(crate) use address::{client_address, requested_host};
pub(crate) use credential::{Credential, Presented};
pub use error::{AuthError, AuthSetupError};
pub use identity::{Claim, Grants, Identity, Ids, Patterns};
pub(crate) use origin::RequestingPage;
pub(crate) use service::Auth;
pub(crate) use ticket::TICKET_TTL;
pub use token::{MintError, Verifier, mint};
