//! Who owns an id: what a directory entry says, and how it is changed.

use crewcast_events::Kind;

/// To whom an id belongs.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Claim {
    /// What the id names.
    pub kind: Kind,
    /// The id.
    pub id: String,
    /// The tenant.
    pub org: String,
    /// For a run: the crew whose readers may read it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub crew: Option<String>,
}

/// What to do with a [`Claim`] whose id is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimMode {
    /// The first owner stays.
    Keep,
    /// The id changes hands. The logs of the channels that it names are dropped: they are the former owner's.
    Move,
    /// The id is forgotten, if the claim's org owns it, and the logs of the channels that it names are dropped: who
    /// registers it next must not read them.
    Remove,
}

/// The answer to a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The directory says what the claim says.
    Done,
    /// Another org owns the id; nothing changed.
    OwnedBy(String),
}
