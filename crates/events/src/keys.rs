//! Every Redis key and internal Pub/Sub name, spelled once.
//!
//! All keys of a channel carry `{channel}` as their hash tag, so that they stand in one slot of a Cluster
//! and one script may touch them together.

use crate::Channel;

/// What the directory knows by id.
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
    /// The word in keys, claims and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Crew => "crew",
            Kind::Run => "run",
            Kind::Stream => "stream",
            Kind::Session => "session",
        }
    }
}

/// Spells keys under one prefix (`broker.key_prefix`).
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
    /// Keys that begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    fn of_channel(&self, channel: &Channel, what: &str) -> String {
        format!("{}:{{{channel}}}:{what}", self.prefix)
    }

    /// List of a channel's logged messages, oldest first.
    pub fn log(&self, channel: &Channel) -> String {
        self.of_channel(channel, "log")
    }

    /// The last id given in a channel; outlives the log.
    pub fn head(&self, channel: &Channel) -> String {
        self.of_channel(channel, "head")
    }

    /// The last message of a channel that retains one.
    pub fn retained(&self, channel: &Channel) -> String {
        self.of_channel(channel, "retained")
    }

    /// Hash of a channel's state documents.
    pub fn state(&self, channel: &Channel) -> String {
        self.of_channel(channel, "state")
    }

    /// Hash of a channel's leases: who promised to go on, and what has been told of his silence.
    pub fn leases(&self, channel: &Channel) -> String {
        self.of_channel(channel, "leases")
    }

    /// Sorted set of a channel's leases by the Unix millisecond at which something is to be told of them.
    pub fn due(&self, channel: &Channel) -> String {
        self.of_channel(channel, "due")
    }

    /// How far a producer's numbers have been accepted in a channel.
    pub fn producer(&self, channel: &Channel, producer: &str) -> String {
        self.of_channel(channel, &format!("producer:{producer}"))
    }

    /// The id that an idempotency key was answered with, in the scope of channel and `sub`.
    pub fn idempotency(&self, channel: &Channel, sub: &str, key: &str) -> String {
        // The length keeps `a` + `b:c` apart from `a:b` + `c`.
        self.of_channel(channel, &format!("idempotency:{}:{sub}:{key}", sub.len()))
    }

    /// Hash `{org, crew}`: to whom an id belongs.
    pub fn directory_entry(&self, kind: Kind, id: &str) -> String {
        format!("{}:directory:{{{}:{id}}}", self.prefix, kind.as_str())
    }

    /// Sorted set of an org's ids of one kind, by the Unix second of their last registration.
    pub fn directory_of_org(&self, org: &str, kind: Kind) -> String {
        format!("{}:directory:{{org:{org}}}:{}", self.prefix, kind.as_str())
    }

    /// Hash of everything revoked: `jti:<J>` or `sub:<S>` to `<issued until>:<remembered until>` in Unix seconds.
    pub fn revocations(&self) -> String {
        format!("{}:revocations", self.prefix)
    }

    /// The identity behind a single-use ticket.
    pub fn ticket(&self, ticket: &str) -> String {
        format!("{}:ticket:{ticket}", self.prefix)
    }

    /// Hash of the replicas that live: each one's figures and until when they count.
    pub fn replicas(&self) -> String {
        format!("{}:replicas", self.prefix)
    }

    /// Held by the one replica that stores live retained values.
    pub fn capture_lease(&self) -> String {
        format!("{}:capture", self.prefix)
    }

    /// Pub/Sub: what concerns every replica (revocations, changes of the directory). The braces keep it out of the grammar of channels.
    pub fn control(&self) -> String {
        format!("{}:{{control}}", self.prefix)
    }

    /// Pub/Sub: a replica's own round-trip probe.
    pub fn probe(&self, replica: &str) -> String {
        format!("{}:probe:{replica}", self.prefix)
    }
}
