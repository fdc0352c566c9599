//! Tickets: a single-use substitute for a token, for browsers' `EventSource`, which cannot send headers.

use std::time::Duration;

use bytes::Bytes;

use super::{AuthError, Identity};
use crate::registry::{BrokerError, Tickets};

/// How long a ticket stays valid (the spec).
pub(crate) const TICKET_TTL: Duration = Duration::from_secs(60);

/// Random bytes of a ticket: 128 bits cannot be guessed within a minute.
const RANDOM: usize = 16;

/// Stores the identity in the registry, because any replica may be asked to redeem the ticket.
pub(super) async fn issue(tickets: &dyn Tickets, identity: &Identity) -> Result<String, BrokerError> {
    let mut random = [0; RANDOM];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut random).map_err(|_| BrokerError::Unavailable("no randomness".to_owned()))?;
    let ticket: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let content = serde_json::to_vec(identity).map_err(|error| BrokerError::Protocol(error.to_string()))?;
    tickets.put_ticket(&ticket, Bytes::from(content), TICKET_TTL).await?;
    Ok(ticket)
}

/// Whether a text has the form of a ticket. Anything else never becomes a key in the registry.
pub(super) fn is_one(ticket: &str) -> bool {
    ticket.len() == 2 * RANDOM && ticket.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Takes the identity behind a ticket. The caller checks whether the identity is still valid.
pub(super) async fn redeem(tickets: &dyn Tickets, ticket: &str) -> Result<Identity, AuthError> {
    let content = tickets.take_ticket(ticket).await?.ok_or(AuthError::Ticket)?;
    serde_json::from_slice(&content).map_err(|_| AuthError::Ticket)
}
