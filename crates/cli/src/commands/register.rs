//! `crewcast register`: registers owners in the directory, for producers that use plain PUBLISH.

use std::process::ExitCode;

use clap::ValueEnum;
use crewcast_events::{Channel, Kind};
use crewcast_publisher::{Ownership, OwnershipMode, OwnershipOutcome, Transport};

use crate::{backend, error::CliError, output, settings::ConfigArgs};

/// Arguments of `register`.
#[derive(clap::Args, Debug)]
pub(crate) struct RegisterArgs {
    /// The kind of the id
    pub kind: KindArg,
    /// The id
    #[arg(value_parser = id)]
    pub id: String,
    /// The org that owns the id
    #[arg(long, value_parser = id)]
    pub org: String,
    /// For a run: the crew whose readers may also read the run
    #[arg(long, value_parser = id)]
    pub crew: Option<String>,
    /// Transfer the id from its current owner to this org. Deletes the logs of its channels, which belong to the former
    /// owner
    #[arg(long = "move", conflicts_with = "remove")]
    pub take: bool,
    /// Remove the id, if the org owns it
    #[arg(long)]
    pub remove: bool,
}

/// The kinds of ids in the directory.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum KindArg {
    Crew,
    Run,
    Stream,
    Session,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Crew => Kind::Crew,
            KindArg::Run => Kind::Run,
            KindArg::Stream => Kind::Stream,
            KindArg::Session => Kind::Session,
        }
    }
}

/// Checks an id. All ids have the grammar of channel ids.
fn id(text: &str) -> Result<String, String> {
    Channel::new("crew", text)
        .map(|channel| channel.id().to_owned())
        .map_err(|_| "an id is 1 to 128 characters of [A-Za-z0-9._-]".to_owned())
}

/// Registers the owner of the id.
///
/// # Errors
/// [`CliError`]; `Failed` when another org owns the id.
pub(crate) async fn run(args: RegisterArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let kind = Kind::from(args.kind);
    if args.crew.is_some() && kind != Kind::Run {
        return Err(CliError::Usage(format!("--crew is only for runs: a {} belongs to its org alone", kind.as_str())));
    }
    let transport = backend::redis(&config.load()?.config)?;
    let mode = match (args.take, args.remove) {
        (true, _) => OwnershipMode::Move,
        (_, true) => OwnershipMode::Remove,
        _ => OwnershipMode::Keep,
    };
    let ownership = Ownership { kind, id: args.id, org: args.org, crew: args.crew };
    output::line(&describe(&ownership, mode, transport.register(&ownership, mode).await?)?)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(ownership: &Ownership, mode: OwnershipMode, claimed: OwnershipOutcome) -> Result<String, CliError> {
    let Ownership { kind, id, org, crew } = ownership;
    let what = format!("{} {id}", kind.as_str());
    match (claimed, mode) {
        (OwnershipOutcome::Done, OwnershipMode::Remove) => Ok(format!("{what} is removed")),
        (OwnershipOutcome::Done, _) => {
            let crew = crew.as_ref().map(|crew| format!(", crew {crew}")).unwrap_or_default();
            Ok(format!("{what} belongs to {org}{crew}"))
        }
        (OwnershipOutcome::OwnedBy(owner), OwnershipMode::Remove) => {
            Err(CliError::Failed(format!("{what} belongs to {owner}, not to {org}: nothing was removed")))
        }
        (OwnershipOutcome::OwnedBy(owner), _) => Err(CliError::Failed(format!(
            "{what} belongs to {owner}: use --move to transfer it, which deletes the logs of its channels"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(crew: Option<&str>) -> Ownership {
        Ownership { kind: Kind::Run, id: "r1".into(), org: "acme".into(), crew: crew.map(Into::into) }
    }

    #[test]
    fn prints_the_new_owner() {
        let done = |mode, crew| describe(&ownership(crew), mode, OwnershipOutcome::Done).unwrap();
        assert_eq!(done(OwnershipMode::Keep, Some("abc")), "run r1 belongs to acme, crew abc");
        assert_eq!(done(OwnershipMode::Move, None), "run r1 belongs to acme");
        assert_eq!(done(OwnershipMode::Remove, None), "run r1 is removed");
    }

    #[test]
    fn an_id_of_another_org_is_refused_with_advice() {
        let refused =
            |mode| describe(&ownership(None), mode, OwnershipOutcome::OwnedBy("other".into())).unwrap_err().to_string();
        assert!(refused(OwnershipMode::Keep).contains("--move"));
        assert!(refused(OwnershipMode::Remove).contains("nothing was removed"));
    }

    #[test]
    fn ids_are_validated_before_redis_is_asked() {
        assert!(id("a b").is_err() && id("").is_err() && id("a:b").is_err());
        assert_eq!(id("A.b_c-9"), Ok("A.b_c-9".to_owned()));
    }
}
