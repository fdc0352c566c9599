//! Ownership of ids: the entries of the directory, and how they change.

use crewcast_events::Kind;

/// The owner of an id: one entry of the directory.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ownership {
    /// What the id names.
    pub kind: Kind,
    /// The id.
    pub id: String,
    /// The owner.
    pub org: String,
    /// For a run: the crew whose readers may read it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crew: Option<String>,
}

/// What to do when the id has an owner already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnershipMode {
    /// The first owner stays.
    Keep,
    /// The id changes hands. The logs of its channels are dropped: they belong to the former owner.
    Move,
    /// The id is forgotten if the org owns it. The logs of its channels are dropped: the next owner must not read them.
    Remove,
}

/// The answer to a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnershipOutcome {
    /// The directory now agrees.
    Done,
    /// Another org owns the id; nothing changed.
    OwnedBy(String),
}
