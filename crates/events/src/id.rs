//! Event ids: `<offset>-<tag>`. Each id names its predecessor.

use std::{fmt, num::NonZeroU64, str::FromStr};

/// How many characters of a tag are new with each event. The others repeat the predecessor's.
pub const RANDOM_LEN: usize = 6;
const TAG_LEN: usize = 2 * RANDOM_LEN;
/// Offsets pass through Lua, where numbers are exact up to 2^53.
const MAX_OFFSET: u64 = 1 << 53;

/// The part of an id that chains it to its predecessor: twelve characters of `[0-9a-z]`.
///
/// The first six repeat the last six of the predecessor's tag; for a channel's first event they are `000000`.
/// The last six cannot be predicted. The script in Redis adds random characters to the predecessor's last six, so they
/// depend on every event so far.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag([u8; TAG_LEN]);

/// An event's place in its channel's log.
///
/// The offset counts 1, 2, 3 … without holes. The tag makes a rewritten history visible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    // Non-zero, so that `Option<EventId>` is no larger: every subscriber and every log entry holds some.
    offset: NonZeroU64,
    tag: Tag,
}

/// A text that is not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id is <offset>-<tag>: a number from 1, a dash, 12 characters of [0-9a-z]")]
pub struct BadEventId;

impl Tag {
    /// The half that the successor's tag begins with.
    pub fn own(&self) -> &[u8] {
        &self.0[RANDOM_LEN..]
    }

    /// The half that names the predecessor.
    pub fn predecessor(&self) -> &[u8] {
        &self.0[..RANDOM_LEN]
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl EventId {
    /// The id of the event after `previous`, or of a channel's first event when `previous` is `None`.
    ///
    /// `random` is six new random characters of `[0-9a-z]`.
    pub fn after(previous: Option<EventId>, random: [u8; RANDOM_LEN]) -> Self {
        let mut tag = [b'0'; TAG_LEN];
        if let Some(previous) = previous {
            tag[..RANDOM_LEN].copy_from_slice(previous.tag.own());
        }
        tag[RANDOM_LEN..].copy_from_slice(&random);
        let offset = previous.map_or(NonZeroU64::MIN, |previous| previous.offset.saturating_add(1));
        Self { offset, tag: Tag(tag) }
    }

    /// The offset, counted from 1 in each channel.
    pub fn offset(&self) -> u64 {
        self.offset.get()
    }

    /// The tag.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Whether this event comes right after `previous`, or is a channel's first when `previous` is `None`.
    pub fn continues(&self, previous: Option<EventId>) -> bool {
        match previous {
            Some(previous) => self.offset() == previous.offset() + 1 && self.tag.predecessor() == previous.tag.own(),
            None => self.offset() == 1 && self.tag.predecessor() == b"000000",
        }
    }

    /// The id of a logged event: `message` must begin exactly with `{"id":"<offset>-<tag>",`.
    pub fn of_message(message: &[u8]) -> Option<Self> {
        let rest = message.strip_prefix(br#"{"id":""#)?;
        // The longest id has 16 digits, the dash and the tag.
        let quote = rest.iter().take(16 + 1 + TAG_LEN + 1).position(|&b| b == b'"')?;
        if rest.get(quote + 1) != Some(&b',') {
            return None;
        }
        Self::parse_bytes(&rest[..quote])
    }

    fn parse_bytes(text: &[u8]) -> Option<Self> {
        let dash = text.len().checked_sub(TAG_LEN + 1)?;
        let (digits, tag) = (&text[..dash], &text[dash + 1..]);
        if text[dash] != b'-' || digits.is_empty() || digits.len() > 16 || digits[0] == b'0' {
            return None;
        }
        let mut offset = 0u64;
        for &digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            offset = offset * 10 + u64::from(digit - b'0');
        }
        if offset > MAX_OFFSET || !tag.iter().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            return None;
        }
        Some(Self { offset: NonZeroU64::new(offset)?, tag: Tag(tag.try_into().ok()?) })
    }
}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        Self::parse_bytes(text.as_bytes()).ok_or(BadEventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.offset, self.tag.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_names_its_predecessor() {
        let first = EventId::after(None, *b"aaaaaa");
        let second = EventId::after(Some(first), *b"bbbbbb");
        assert_eq!(first.to_string(), "1-000000aaaaaa");
        assert_eq!(second.to_string(), "2-aaaaaabbbbbb");
        assert!(first.continues(None) && second.continues(Some(first)));
        let rewritten = EventId::after(None, *b"zzzzzz");
        assert!(!second.continues(Some(rewritten)) && !second.continues(None));
        assert_eq!("2-aaaaaabbbbbb".parse(), Ok(second));
    }

    #[test]
    fn only_the_exact_form_is_an_id() {
        for bad in [
            "",
            "0-000000aaaaaa",
            "01-000000aaaaaa",
            "1-00000aaaaaa",
            "1-000000AAAAAA",
            "-000000aaaaaa",
            "1_000000aaaaaa",
            "99999999999999999-000000aaaaaa",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(BadEventId), "{bad:?}");
        }
    }

    #[test]
    fn only_the_exact_prefix_marks_a_logged_event() {
        let id = EventId::of_message(br#"{"id":"7-abcdefghijkl","type":"x"}"#);
        assert_eq!(id.map(|id| id.offset()), Some(7));
        for live in [
            r#"{ "id":"7-abcdefghijkl","type":"x"}"#,
            r#"{"id": "7-abcdefghijkl","type":"x"}"#,
            r#"{"id":"7-abcdefghijkl"}"#,
            r#"{"id":"7-abcdef","type":"x"}"#,
            r#"{"id":7,"type":"x"}"#,
            "{",
        ] {
            assert_eq!(EventId::of_message(live.as_bytes()), None, "{live}");
        }
    }
}
