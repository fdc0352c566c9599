//! Namespaces: the rules for a channel's log, retained value, end and owner.

use std::{collections::BTreeMap, time::Duration};

use crate::{Channel, Kind};

/// How long a channel's log keeps events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPolicy {
    /// Maximum number of events. 0 means that the namespace has no log: all its events are live.
    pub length: u32,
    /// How long the log is kept after its last event.
    pub age: Duration,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { length: 1000, age: Duration::from_secs(24 * 3600) }
    }
}

/// What the ids of a namespace refer to. This decides which claim of a token grants them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Owner {
    Crew,
    Run,
    Stream,
    Session,
    Org,
}

impl From<Kind> for Owner {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Crew => Owner::Crew,
            Kind::Run => Owner::Run,
            Kind::Stream => Owner::Stream,
            Kind::Session => Owner::Session,
        }
    }
}

impl Owner {
    /// The kind of these ids in the directory; `None` if the directory does not hold them.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Owner::Org => None,
            Owner::Crew => Some(Kind::Crew),
            Owner::Run => Some(Kind::Run),
            Owner::Stream => Some(Kind::Stream),
            Owner::Session => Some(Kind::Session),
        }
    }
}

/// The rules of one namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Retention of the log.
    pub log: LogPolicy,
    /// New subscribers receive the channel's last event at once.
    pub retain: bool,
    /// Gateways keep what live events leave: the retained value, and in the namespaces of an org and of sessions the
    /// documents and last messages that sockets start with.
    pub capture_live: bool,
    /// Event types that end a channel.
    pub terminal: Vec<String>,
    /// What the id refers to. With `None`, the `channels` claim grants access.
    pub owner: Option<Owner>,
    /// How long after `stalled` an expired lease becomes `lost`. Zero turns lease checks off.
    pub lost_after: Duration,
    /// Lagging readers skip progress events that newer progress of the same item replaces.
    pub skip_progress: bool,
}

/// [`Namespace::lost_after`] of the built-in namespaces whose emitters hold leases.
const LOST_AFTER: Duration = Duration::from_secs(60);

impl Namespace {
    /// Whether the live events of the namespace of this name leave more than a retained value.
    pub fn leaves_documents(name: &str) -> bool {
        matches!(name, "agents" | "tasks" | "knowledge" | "metrics" | "tracking" | "session")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self {
            log: LogPolicy::default(),
            retain: false,
            capture_live: false,
            terminal: Vec::new(),
            owner: None,
            lost_after: Duration::ZERO,
            skip_progress: false,
        }
    }
}

/// How much longer than its log a channel's head is kept.
///
/// A reader that was away while the log expired can then still learn whether it missed anything.
pub const HEAD_BEYOND_LOG: Duration = Duration::from_secs(30 * 24 * 3600);

/// Every configured namespace, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespaces(pub BTreeMap<String, Namespace>);

impl Namespaces {
    /// The rules of a channel; `None` when its namespace is not configured.
    pub fn of(&self, channel: &Channel) -> Option<&Namespace> {
        self.0.get(channel.namespace())
    }

    /// Every channel of an id in the directory: one in each namespace whose ids are of this kind.
    pub fn channels_of<'a>(&'a self, kind: Kind, id: &'a str) -> impl Iterator<Item = Channel> + 'a {
        let owned = self.0.iter().filter(move |(_, namespace)| namespace.owner == Some(kind.into()));
        owned.filter_map(move |(name, _)| Channel::new(name, id).ok())
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        let owned = |owner| Namespace { owner: Some(owner), ..Namespace::default() };
        let captured = |owner| Namespace { capture_live: true, ..owned(owner) };
        let mission = Namespace { retain: true, capture_live: true, ..owned(Owner::Crew) };
        let leased = |owner| Namespace { lost_after: LOST_AFTER, ..owned(owner) };
        let tracked = |owner| Namespace { capture_live: true, ..leased(owner) };
        let run = Namespace { terminal: vec!["done".to_owned()], ..leased(Owner::Run) };
        let named = [
            ("graph", leased(Owner::Crew)),
            ("mission", mission),
            ("run", run),
            ("stream", owned(Owner::Stream)),
            ("hub", owned(Owner::Org)),
            ("tracking", tracked(Owner::Org)),
            ("session", tracked(Owner::Session)),
            ("agents", captured(Owner::Org)),
            ("tasks", captured(Owner::Org)),
            ("knowledge", captured(Owner::Org)),
            ("metrics", captured(Owner::Org)),
        ];
        Self(named.into_iter().map(|(name, namespace)| (name.to_owned(), namespace)).collect())
    }
}
