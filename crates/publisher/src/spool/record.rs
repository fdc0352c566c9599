//! The spool's file format: a header, then records, each with its length and a checksum.
//!
//! ```text
//! record  = length of what follows the checksum, u32 · its CRC-32, u32 · length of the meta, u32 · meta · event
//! ```
//! Numbers are little-endian. The meta is JSON ([`Meta`]). The event is the producer's bytes, unchanged; it is empty in
//! a position. A record whose checksum does not match counts as not written.

use std::{ops::Range, sync::Arc};

use crewcast_events::{Body, Channel, RANDOM_LEN};
use crewcast_store::{Entry, LeaseStep, Ownership, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// First bytes of every segment: format and version.
pub(super) const HEADER: &[u8; 8] = b"CREWSPL1";
/// Bytes before the checksummed part.
const FRAME: usize = 8;
/// Most bytes of a position record: names of channels and producers are bounded, and numbers have at most 20 digits.
pub(super) const MAX_POSITION: u64 = 400;

/// How far a channel's events are settled, and the name and number of the first unsettled one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The first unsettled event. Ordinals count a channel's events in the order of emitting and are never reused,
    /// neither after a restart nor when the queue has forgotten an idle channel.
    pub(crate) ordinal: u64,
    pub(crate) producer: Arc<str>,
    /// The number of event `ordinal`; later events follow it.
    pub(crate) number: u64,
}

impl Position {
    /// Whether both give every event the same name and number.
    pub(super) fn agrees_with(&self, other: &Position) -> bool {
        let start = |position: &Position| position.number.wrapping_sub(position.ordinal);
        self.producer == other.producer && start(self) == start(other)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum Meta {
    Event {
        channel: Channel,
        ordinal: u64,
        random: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        state: Option<StateMeta>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        lease: Option<LeaseStep>,
        #[serde(skip_serializing_if = "Option::is_none", default, rename = "claims")]
        ownerships: Option<Arc<[Ownership]>>,
    },
    Position {
        channel: Channel,
        position: Position,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct StateMeta {
    key: String,
    value: Option<Arc<RawValue>>,
}

/// An event in the spool.
#[derive(Clone, Debug)]
pub(crate) struct SpooledEvent {
    pub(crate) ordinal: u64,
    pub(crate) entry: Entry,
    pub(crate) ownerships: Option<Arc<[Ownership]>>,
}

pub(super) fn write_event(into: &mut Vec<u8>, channel: &Channel, kept: &SpooledEvent) -> serde_json::Result<()> {
    let Entry { body, random, state, lease } = &kept.entry;
    let meta = Meta::Event {
        channel: channel.clone(),
        ordinal: kept.ordinal,
        random: String::from_utf8_lossy(random).into_owned(),
        state: state.as_ref().map(|state| StateMeta { key: state.key.clone(), value: state.value.clone() }),
        lease: lease.clone(),
        ownerships: kept.ownerships.clone(),
    };
    write(into, &meta, body.object())
}

pub(super) fn write_position(into: &mut Vec<u8>, channel: &Channel, position: &Position) -> serde_json::Result<()> {
    write(into, &Meta::Position { channel: channel.clone(), position: position.clone() }, &[])
}

fn write(into: &mut Vec<u8>, meta: &Meta, event: &[u8]) -> serde_json::Result<()> {
    let meta = serde_json::to_vec(meta)?;
    let length = 4 + meta.len() + event.len();
    let start = into.len();
    into.extend_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    into.extend_from_slice(&meta);
    into.extend_from_slice(event);
    let sum = crc32fast::hash(&into[start + FRAME..]);
    into[start + 4..start + FRAME].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// What was found in a segment.
pub(super) enum Found {
    Record {
        meta: Meta,
        place: Range<usize>,
    },
    /// Bytes whose checksum does not match. The next record may begin at `rest`.
    Damaged {
        rest: usize,
    },
}

/// Reads the record at `at`; `None` at the end.
pub(super) fn read(segment: &[u8], at: usize) -> Option<Found> {
    if at >= segment.len() {
        return None;
    }
    let end = word(segment, at).and_then(|length| at.checked_add(FRAME)?.checked_add(length as usize));
    let Some(end) = end.filter(|&end| end <= segment.len()) else {
        // Torn off, or a length that cannot be trusted: nothing after it can be found.
        return Some(Found::Damaged { rest: segment.len() });
    };
    Some(match parse(&segment[at..end]) {
        Some((meta, _)) => Found::Record { meta, place: at..end },
        None => Found::Damaged { rest: end },
    })
}

/// The event of one record; `None` when the bytes are not an event record.
pub(super) fn read_event(record: &[u8]) -> Option<SpooledEvent> {
    let (Meta::Event { ordinal, random, state, lease, ownerships, .. }, event) = parse(record)? else { return None };
    let random: [u8; RANDOM_LEN] = random.as_bytes().try_into().ok()?;
    let state = state.map(|StateMeta { key, value }| State { key, value });
    let entry = Entry { body: Body::parse(event.to_vec()).ok()?, random, state, lease };
    Some(SpooledEvent { ordinal, entry, ownerships })
}

fn parse(record: &[u8]) -> Option<(Meta, &[u8])> {
    let (sum, checked) = (word(record, 4)?, record.get(FRAME..)?);
    if crc32fast::hash(checked) != sum {
        return None;
    }
    let (meta, event) = checked.get(4..)?.split_at_checked(word(checked, 0)? as usize)?;
    Some((serde_json::from_slice(meta).ok()?, event))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
