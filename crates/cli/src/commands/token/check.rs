//! `crewcast token check`: shows what a token grants, or why it is refused.

use std::{
    io::Read,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crewcast_events::timestamp::{self, unix_now};
use crewcast_gateway::{Identity, Ids, Patterns, Verifier};

use super::warn_if_useless;
use crate::{duration, error::CliError, output, settings::ConfigArgs};

/// Arguments of `token check`.
#[derive(clap::Args, Debug)]
pub(crate) struct CheckTokenArgs {
    /// The token, a file that contains it, or - for standard input
    #[arg(value_name = "JWT|FILE|-")]
    pub token: String,
}

/// Verifies a token with the configured keys. Does not check revocations, which are in Redis.
///
/// # Errors
/// [`CliError::Failed`] says why a gateway refuses the token.
pub(crate) async fn run(args: CheckTokenArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let auth = config.load()?.config.auth;
    let token = read(&args.token)?;
    let verifier = Verifier::new(&auth).map_err(|error| CliError::Usage(error.to_string()))?;
    let identity =
        verifier.verify(&token).await.map_err(|error| CliError::Failed(format!("refused: {}", error.reason())))?;
    output::line(&describe(&identity, unix_now()))?;
    warn_if_useless(&identity);
    Ok(ExitCode::SUCCESS)
}

fn read(argument: &str) -> Result<String, CliError> {
    let mut text = String::new();
    if argument == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(CliError::io("standard input"))?;
    } else if std::path::Path::new(argument).is_file() {
        text = std::fs::read_to_string(argument).map_err(CliError::io(argument))?;
    } else {
        argument.clone_into(&mut text);
    }
    Ok(text.trim().to_owned())
}

fn describe(identity: &Identity, now: u64) -> String {
    let mut lines = vec![format!("valid: sub {}", identity.sub)];
    let mut put = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("  {name:<9} {value}")));
    };
    let Identity { org, grants, expires_at, jti, admin, .. } = identity;
    put("org", org.as_ref().map(ToString::to_string));
    let all = match org {
        Some(org) => format!("every one of {org}"),
        None => "none: '*' without an org grants nothing".to_owned(),
    };
    put("crews", ids(&grants.crews, &all));
    put("runs", ids(&grants.runs, &all));
    put("streams", ids(&grants.streams, &all));
    put("sessions", ids(&grants.sessions, &all));
    put("channels", patterns(&grants.channels));
    put("publish", patterns(&grants.publish));
    put("admin", admin.then(|| "sees the usage of every org".to_owned()));
    put("jti", jti.clone());
    put("expires", expires_at.map(|at| expiry(at, now)));
    lines.join("\n")
}

fn ids(ids: &Ids, all: &str) -> Option<String> {
    match ids {
        Ids::All => Some(all.to_owned()),
        Ids::Listed(ids) if ids.is_empty() => None,
        Ids::Listed(ids) => Some(ids.join(", ")),
    }
}

fn patterns(patterns: &Patterns) -> Option<String> {
    (!patterns.0.is_empty()).then(|| patterns.0.join(", "))
}

fn expiry(at: u64, now: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at)).unwrap_or(SystemTime::UNIX_EPOCH);
    format!("{} (in {})", timestamp::format(time), duration::rough(Duration::from_secs(at.saturating_sub(now))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crewcast_gateway::Grants;

    use super::*;

    #[test]
    fn shows_granted_claims_only() {
        let identity = Identity {
            sub: "u1".into(),
            org: Some("acme".into()),
            grants: Arc::new(Grants {
                crews: Ids::All,
                runs: Ids::Listed(["r1".into(), "r2".into()].into()),
                publish: Patterns(["graph:*".into()].into()),
                ..Grants::default()
            }),
            expires_at: Some(1_700_003_600),
            issued_at: None,
            jti: Some("j1".into()),
            admin: false,
            anonymous: false,
        };
        let text = describe(&identity, 1_700_000_000);
        assert_eq!(
            text,
            "valid: sub u1\n  org       acme\n  crews     every one of acme\n  runs      r1, r2\n  \
             publish   graph:*\n  jti       j1\n  expires   2023-11-14T23:13:20.000Z (in 60m)"
        );
        let without_org = describe(&Identity { org: None, ..identity }, 0);
        assert!(without_org.contains("without an org grants nothing"), "{without_org}");
    }

    #[test]
    fn a_token_comes_from_the_command_line_or_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "a.b.c\n").unwrap();
        assert_eq!(read(file.path().to_str().unwrap()).unwrap(), "a.b.c");
        assert_eq!(read("a.b.c").unwrap(), "a.b.c");
    }
}
