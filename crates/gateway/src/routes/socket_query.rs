//! The query of a socket's URL.

use std::time::Duration;

use axum::http::request::Parts;
use crewcast_events::Since;
use crewcast_websocket::close::CloseCode;

use super::{sockets::CloseReason, types};
use crate::dialect::batch::BATCH_MS;

/// What a socket's URL asks for.
#[derive(Default)]
pub(super) struct SocketQuery {
    /// Resume behind this event.
    pub since: Option<Since>,
    /// Only these event types; empty: all.
    pub types: Vec<String>,
    /// Only for `/ws/graph`.
    pub crew_id: Option<String>,
    /// Only for `/ws`: how long messages are collected.
    pub batch_ms: Option<String>,
}

impl SocketQuery {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// The close frame for types that are not valid.
    pub(super) fn of(parts: &Parts) -> Result<Self, CloseReason> {
        let mut query = Self::default();
        for (key, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match &*key {
                "since" => query.since = value.parse().ok(),
                "types" => types::add(&mut query.types, &value)
                    .map_err(|error| (CloseCode::BadMessage, error.to_string().into()))?,
                "batch_ms" => query.batch_ms = Some(value.into_owned()),
                "crew_id" if !value.is_empty() => query.crew_id = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(query)
    }
}

/// The time of `batch_ms`.
///
/// # Errors
/// The close frame for a time that is not allowed.
pub(super) fn batch(ms: &str) -> Result<Duration, CloseReason> {
    let ms = ms.parse().ok().filter(|ms| BATCH_MS.contains(ms));
    ms.map(Duration::from_millis).ok_or((CloseCode::BadMessage, "batch_ms: 1 to 1000 milliseconds".into()))
}

/// Whether the query has `format=binary`: the same bytes in binary frames, on every endpoint.
pub(super) fn asks_for_binary(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "format" && value == "binary")
}
