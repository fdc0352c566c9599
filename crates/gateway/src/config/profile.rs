//! `profile`: the settings that one of five systems took for granted, as a layer below the operator's own.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Source,
    form::Form as _,
    layers::{self, Layer},
};

/// A system whose front ends work with Crewcast by changing their URL. `config/profiles/<name>.toml` holds what it set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Profile {
    Crew,
    Hive,
    Hub,
    Agentcraft,
    Forge,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 5] = [Self::Crew, Self::Hive, Self::Hub, Self::Agentcraft, Self::Forge];

    /// The name in the configuration and of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crew => "crew",
            Self::Hive => "hive",
            Self::Hub => "hub",
            Self::Agentcraft => "agentcraft",
            Self::Forge => "forge",
        }
    }

    fn toml(self) -> &'static str {
        match self {
            Self::Crew => include_str!("profiles/crew.toml"),
            Self::Hive => include_str!("profiles/hive.toml"),
            Self::Hub => include_str!("profiles/hub.toml"),
            Self::Agentcraft => include_str!("profiles/agentcraft.toml"),
            Self::Forge => include_str!("profiles/forge.toml"),
        }
    }
}

impl Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The layer of the profile that the last of these layers chooses. `None` without one, and for an unknown name: the
/// configuration itself then says what is wrong with it.
pub(crate) fn layer(layers: &[Layer]) -> Result<Option<Layer>, String> {
    let name = layers.iter().rev().find_map(|(_, dict)| dict.get("profile")?.as_str());
    // Read as the key itself is, so that both understand the same.
    let Some(profile) = name.and_then(|name| Profile::read(&json!(name)).ok()) else { return Ok(None) };
    let (_, dict) = layers::toml(profile.name().as_ref(), profile.toml())?;
    Ok(Some((Source::Profile(profile), dict)))
}
