//! Channel names: `<namespace>:<id>`.

use std::{borrow::Borrow, fmt, hash::Hash, str::FromStr, sync::Arc};

/// Longest id of a channel, in characters (all of them ASCII).
pub const MAX_ID_LEN: usize = 128;
/// Longest namespace name. Namespaces come from configuration, so that the bound only keeps names sane.
pub const MAX_NAMESPACE_LEN: usize = 32;

/// A valid channel name, as it stands in Redis. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    // Eq and Hash of the whole name only, so that `Borrow<str>` holds: see the impls below.
    name: Arc<str>,
}

/// Why a text is not a channel name. Says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChannel {
    /// There is no `:`.
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
    /// [`BadChannel`] when either part is outside its grammar.
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

    /// What stands before the colon.
    pub fn namespace(&self) -> &str {
        self.name.split_once(':').map_or("", |(namespace, _)| namespace)
    }

    /// What stands behind the colon.
    pub fn id(&self) -> &str {
        self.name.split_once(':').map_or("", |(_, id)| id)
    }
}

/// Whether `id` could be a channel's id: 1 to 128 of `[A-Za-z0-9._-]`.
pub fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID_LEN
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether `name` could be a namespace: `[a-z][a-z0-9_-]{0,31}`.
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
    fn takes_what_the_model_allows() {
        let channel: Channel = "graph:A.b_c-9".parse().unwrap();
        assert_eq!((channel.namespace(), channel.id()), ("graph", "A.b_c-9"));
        assert!(format!("run:{}", "x".repeat(128)).parse::<Channel>().is_ok());
    }

    #[test]
    fn refuses_the_rest() {
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
