//! Bodies of `POST /api/v1/publish`, with the producers' bytes as they are.

use std::sync::Arc;

use crewcast_events::Channel;
use crewcast_store::{Append, AppendError, LeaseStep, Once};
use serde::Serialize;
use serde_json::value::RawValue;

pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

pub(super) struct Request {
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// How many events it holds.
    pub(super) lines: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    channel: &'a Channel,
    event: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StateLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseLine<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    live: bool,
}

#[derive(Serialize)]
struct StateLine<'a> {
    key: &'a str,
    /// `null` removes the document.
    value: Option<&'a Arc<RawValue>>,
}

#[derive(Serialize)]
struct LeaseLine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a Arc<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    end: bool,
}

impl<'a> LeaseLine<'a> {
    /// `None` for steps that only gateways take.
    fn of(step: &'a LeaseStep) -> Option<Self> {
        match step {
            LeaseStep::Hold { name, ttl, about } => {
                // Rounded up: a lease never ends earlier than promised.
                let ttl = ttl.as_millis().div_ceil(1000);
                Some(Self { name, ttl: u64::try_from(ttl).ok(), about: about.as_ref(), end: false })
            }
            LeaseStep::Release { name } => Some(Self { name, ttl: None, about: None, end: true }),
            LeaseStep::Expire { .. } => None,
        }
    }
}

/// The requests for an append, to be sent in order. Usually one: only an event with a line break between its tokens
/// cannot be a line of NDJSON, and needs its own request.
pub(super) fn of_append(append: &Append, with_leases: bool) -> Result<Vec<Request>, AppendError> {
    let mut requests: Vec<Request> = Vec::new();
    for (n, entry) in (0..).zip(&append.entries) {
        let idempotency_key = match &append.once {
            Once::No => None,
            Once::Sequence { producer, first } => Some(format!("{producer}:{}", first + n)),
            Once::Key { key, .. } => Some(key.clone()),
        };
        let state = entry.state.as_ref().map(|state| StateLine { key: &state.key, value: state.value.as_ref() });
        let lease = entry.lease.as_ref().filter(|_| with_leases).and_then(LeaseLine::of);
        let event = raw(entry.body.object())?;
        let line = write(&Line { channel: &append.channel, event, idempotency_key, state, lease, live: false })?;
        if line.contains(&b'\n') || line.contains(&b'\r') {
            requests.push(Request { content_type: JSON, body: line, lines: 1 });
            continue;
        }
        match requests.last_mut() {
            Some(request) if request.content_type == LINES => {
                request.body.extend(line);
                request.body.push(b'\n');
                request.lines += 1;
            }
            _ => {
                let mut body = line;
                body.push(b'\n');
                requests.push(Request { content_type: LINES, body, lines: 1 });
            }
        }
    }
    Ok(requests)
}

pub(super) fn live(channel: &Channel, message: &[u8]) -> Result<Request, AppendError> {
    let line = Line { channel, event: raw(message)?, idempotency_key: None, state: None, lease: None, live: true };
    Ok(Request { content_type: JSON, body: write(&line)?, lines: 1 })
}

fn raw(object: &[u8]) -> Result<&RawValue, AppendError> {
    serde_json::from_slice(object).map_err(|_| AppendError::Refused("the event is no JSON".to_owned()))
}

fn write(line: &Line<'_>) -> Result<Vec<u8>, AppendError> {
    serde_json::to_vec(line).map_err(|error| AppendError::Refused(error.to_string()))
}
