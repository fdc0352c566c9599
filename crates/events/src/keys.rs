//! Every Redis key and internal Pub/Sub channel name.
//!
//! All keys of a channel use `{channel}` as their hash tag. They are therefore in one slot of a Redis Cluster, and one
//! script may use them together.

use crate::Channel;

/// The kinds of ids in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Crew,
    Run,
    Stream,
    Session,
}

impl Kind {
    /// The name of the kind in keys, in claims and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Crew => "crew",
            Kind::Run => "run",
            Kind::Stream => "stream",
            Kind::Session => "session",
        }
    }
}

/// Spells all keys under one prefix (`broker.key_prefix`).
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Default for Keys {
    fn default() -> Self {
        Self::new("crewcast")
    }
}

impl Keys {
    /// Creates keys that begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    fn of_channel(&self, channel: &Channel, what: &str) -> String {
        format!("{}:{{{channel}}}:{what}", self.prefix)
    }

    /// List: a channel's logged messages, oldest first.
    pub fn log(&self, channel: &Channel) -> String {
        self.of_channel(channel, "log")
    }

    /// String: the last id given in a channel. It outlives the log.
    pub fn head(&self, channel: &Channel) -> String {
        self.of_channel(channel, "head")
    }

    /// String: the last message of a channel with a retained value.
    pub fn retained(&self, channel: &Channel) -> String {
        self.of_channel(channel, "retained")
    }

    /// Hash: a channel's state documents.
    pub fn state(&self, channel: &Channel) -> String {
        self.of_channel(channel, "state")
    }

    /// Hash: a channel's leases, each with its expiry and the last published status.
    pub fn leases(&self, channel: &Channel) -> String {
        self.of_channel(channel, "leases")
    }

    /// Sorted set: a channel's leases by the Unix millisecond of their next check.
    pub fn due(&self, channel: &Channel) -> String {
        self.of_channel(channel, "due")
    }

    /// String: the last live message of a name in a channel, captured from a producer that only knows PUBLISH.
    pub fn live(&self, channel: &Channel, name: &str) -> String {
        self.of_channel(channel, &format!("live:{name}"))
    }

    /// List: the last captured messages of a name in a channel, oldest first.
    pub fn live_lines(&self, channel: &Channel, name: &str) -> String {
        self.of_channel(channel, &format!("live_lines:{name}"))
    }

    /// The last sequence number that a channel has accepted from a producer.
    pub fn producer(&self, channel: &Channel, producer: &str) -> String {
        self.of_channel(channel, &format!("producer:{producer}"))
    }

    /// The id that an idempotency key was answered with. Keys are scoped by channel and `sub`.
    pub fn idempotency(&self, channel: &Channel, sub: &str, key: &str) -> String {
        // The length tells `a` + `b:c` from `a:b` + `c`.
        self.of_channel(channel, &format!("idempotency:{}:{sub}:{key}", sub.len()))
    }

    /// Hash `{org, crew}`: the owner of an id.
    pub fn directory_entry(&self, kind: Kind, id: &str) -> String {
        format!("{}:directory:{{{}:{id}}}", self.prefix, kind.as_str())
    }

    /// Sorted set: an org's ids of one kind, by the Unix second of their last registration.
    pub fn directory_of_org(&self, org: &str, kind: Kind) -> String {
        format!("{}:directory:{{org:{org}}}:{}", self.prefix, kind.as_str())
    }

    /// Hash: revocations. `jti:<J>` or `sub:<S>` maps to `<issued until>:<remembered until>`, in Unix seconds.
    pub fn revocations(&self) -> String {
        format!("{}:revocations", self.prefix)
    }

    /// String: the identity behind a single-use ticket.
    pub fn ticket(&self, ticket: &str) -> String {
        format!("{}:ticket:{ticket}", self.prefix)
    }

    /// Hash: the usage of each running replica, and when it expires.
    pub fn replicas(&self) -> String {
        format!("{}:replicas", self.prefix)
    }

    /// String: the lease of the one replica that stores live events as retained values.
    pub fn capture_lease(&self) -> String {
        format!("{}:capture", self.prefix)
    }

    /// Pub/Sub: messages for every replica, such as revocations and changes of the directory.
    ///
    /// The braces are not allowed in channel names, so no channel can have this name.
    pub fn control(&self) -> String {
        format!("{}:{{control}}", self.prefix)
    }

    /// Pub/Sub: a replica's round-trip probe.
    pub fn probe(&self, replica: &str) -> String {
        format!("{}:probe:{replica}", self.prefix)
    }
}
