//! Channel names: `<namespace>:<id>`.

use std::{borrow::Borrow, fmt, hash::Hash, str::FromStr, sync::Arc};

/// Longest channel id, in characters. All of them are ASCII.
pub(crate) const MAX_ID_LEN: usize = 128;
/// Longest namespace name, in characters.
pub(crate) const MAX_NAMESPACE_LEN: usize = 32;

/// A valid channel name, spelled as in Redis. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    // The only field: `Borrow<str>` requires that `Eq` and `Hash` agree with those of the name.
    name: Arc<str>,
}

/// Why a text is not a channel name. The message says what a valid name looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChannel {
    /// The text has no `:`.
    #[error("a channel is <namespace>:<id>, for example graph:abc")]
    NoColon,
    /// The namespace does not match `[a-z][a-z0-9_-]{0,31}`.
    #[error("a channel's namespace starts with a lower-case letter and has at most 32 of [a-z0-9_-]")]
    Namespace,
    /// The id does not match `[A-Za-z0-9._-]{1,128}`.
    #[error("a channel's id is 1 to 128 characters of [A-Za-z0-9._-]")]
    Id,
}

impl Channel {
    /// The channel `<namespace>:<id>`.
    ///
    /// # Errors
    /// [`BadChannel`] when either part breaks its grammar.
    pub fn new(namespace: &str, id: &str) -> Result<Self, BadChannel> {
        if !is_namespace(namespace) {
            return Err(BadChannel::Namespace);
        }
        if !is_id(id) {
            return Err(BadChannel::Id);
        }
        Ok(Self { name: format!("{namespace}:{id}").into() })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The part before the colon.
    pub fn namespace(&self) -> &str {
        self.name.split_once(':').map_or("", |(namespace, _)| namespace)
    }

    /// The part after the colon.
    pub fn id(&self) -> &str {
        self.name.split_once(':').map_or("", |(_, id)| id)
    }
}

/// Whether `id` is a valid channel id: 1 to 128 characters of `[A-Za-z0-9._-]`.
pub fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID_LEN
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether `name` is a valid namespace name: `[a-z][a-z0-9_-]{0,31}`.
pub fn is_namespace(name: &str) -> bool {
    name.len() <= MAX_NAMESPACE_LEN
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(name: &str) -> Result<Self, BadChannel> {
        let (namespace, id) = name.split_once(':').ok_or(BadChannel::NoColon)?;
        Self::new(namespace, id)
    }
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl serde::Serialize for Channel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> serde::Deserialize<'de> for Channel {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_valid_names() {
        let channel: Channel = "graph:A.b_c-9".parse().unwrap();
        assert_eq!((channel.namespace(), channel.id()), ("graph", "A.b_c-9"));
        assert!(format!("run:{}", "x".repeat(128)).parse::<Channel>().is_ok());
    }

    #[test]
    fn rejects_invalid_names() {
        for bad in [
            "graph",
            "graph:",
            ":abc",
            "Graph:abc",
            "graph:a b",
            "graph:a:b",
            "graph:ü",
            "graph:a{b}",
            "graph:a\n",
            "9x:a",
        ] {
            assert!(bad.parse::<Channel>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("run:{}", "x".repeat(129)).parse::<Channel>(), Err(BadChannel::Id));
    }
}
