//! One validating pass over an event: it must be an object, and the fields that gateways read are located.

use std::{fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::Field;

/// The place of a field's value in the text, quotes included. Empty when the field is missing or is not a string.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(crate) fn range(self) -> Option<Range<usize>> {
        (self.len > 0).then(|| self.start as usize..(self.start + self.len) as usize)
    }
}

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Scanned {
    pub(crate) spans: [Span; Field::COUNT],
    pub(crate) has_id: bool,
}

/// Scans one JSON object. Of two equal keys the last one counts, as in every common parser.
pub(crate) fn scan(text: &str) -> Result<Scanned, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let scanned = deserializer.deserialize_map(Scan { base: text.as_ptr() as usize })?;
    deserializer.end()?;
    Ok(scanned)
}

struct Scan {
    base: usize,
}

impl<'de> Visitor<'de> for Scan {
    type Value = Scanned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scanned, A::Error> {
        let mut scanned = Scanned::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Read(field) => {
                    let value = map.next_value::<&'de RawValue>()?.get();
                    scanned.spans[field as usize] = if value.starts_with('"') {
                        // A message has at most some megabytes: both numbers fit.
                        Span { start: (value.as_ptr() as usize - self.base) as u32, len: value.len() as u32 }
                    } else {
                        Span::default()
                    };
                }
                Key::Id => {
                    scanned.has_id = true;
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(scanned)
    }
}

/// Whether a JSON object has this top-level key.
pub(crate) fn has_key(text: &str, key: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Find(key.as_bytes())).unwrap_or_default()
}

struct Find<'a>(&'a [u8]);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut is_there = false;
        while let Some(is_it) = map.next_key_seed(Equals(self.0))? {
            is_there |= is_it;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(is_there)
    }
}

/// Deserializes a key to whether it equals this one. Reads bytes, for the same reason as [`Key`].
struct Equals<'a>(&'a [u8]);

impl<'de> DeserializeSeed<'de> for Equals<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Equals<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

enum Key {
    Read(Field),
    Id,
    Other,
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"id" => Key::Id,
                    key => Field::of(key).map_or(Key::Other, Key::Read),
                })
            }
        }
        // JSON allows lone surrogates in keys (RFC 8259, section 8.2), but Rust strings do not: read bytes.
        deserializer.deserialize_bytes(KeyVisitor)
    }
}
