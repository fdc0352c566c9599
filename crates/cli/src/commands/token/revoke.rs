//! `crewcast token revoke`: revokes a token or all tokens of a user.

use std::{process::ExitCode, time::Duration};

use crewcast_events::timestamp::unix_now;
use crewcast_gateway::{Revocation, RevocationTarget, Revocations};

use crate::{backend, duration, error::CliError, output, settings::ConfigArgs};

/// Arguments of `token revoke`.
#[derive(clap::Args, Debug)]
pub(crate) struct RevokeArgs {
    /// Revoke the token with this id, its claim "jti". Give either this or --sub
    #[arg(long, required_unless_present = "sub", conflicts_with = "sub")]
    pub jti: Option<String>,
    /// Revoke every token of this user, claim "sub", that was issued until now
    #[arg(long, value_name = "USER")]
    pub sub: Option<String>,
    /// How long to remember the revocation. Must exceed the lifetime of the revoked tokens
    #[arg(long = "for", default_value = "31d", value_parser = duration::parse, value_name = "DURATION")]
    pub remember: Duration,
}

impl RevokeArgs {
    fn revocation(self, now: u64) -> Result<Revocation, CliError> {
        let target = match (self.jti, self.sub) {
            (Some(jti), _) if !jti.is_empty() => RevocationTarget::Jti(jti),
            (None, Some(sub)) if !sub.is_empty() => RevocationTarget::Sub(sub),
            _ => return Err(CliError::Usage("name a token with --jti or a user with --sub".to_owned())),
        };
        Ok(Revocation { target, issued_until: now, remember_until: now.saturating_add(self.remember.as_secs()) })
    }
}

/// Stores the revocation in Redis and notifies every replica.
///
/// # Errors
/// [`CliError::Unreachable`] when Redis does not answer, `Usage` when the arguments are invalid.
pub(crate) async fn run(args: RevokeArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let config = config.load()?.config;
    let remember = args.remember;
    let revocation = args.revocation(unix_now())?;
    let registry = backend::registry(&config)?;
    registry.revoke(&revocation).await.map_err(|error| {
        CliError::Unreachable(format!(
            "nothing was revoked: {error}\nCheck broker.url and that Redis runs: `crewcast check` tests both"
        ))
    })?;
    let what = match &revocation.target {
        RevocationTarget::Jti(jti) => format!("the token with jti {jti}"),
        RevocationTarget::Sub(sub) => format!("every token of {sub} that was issued until now"),
    };
    output::line(&format!("revoked: {what}; remembered for {}", duration::rough(remember)))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        commands::token,
    };

    fn parse(line: &str) -> Result<RevokeArgs, clap::Error> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
        let Command::Token(token::TokenArgs { command: Some(token::TokenCommand::Revoke(args)), .. }) = cli.command
        else {
            panic!("{line}")
        };
        Ok(args)
    }

    #[test]
    fn one_token_or_one_user() {
        let of = |line| parse(line).unwrap().revocation(1000).unwrap();
        let jti = of("crewcast token revoke --jti j --for 1h");
        assert_eq!((jti.target, jti.issued_until, jti.remember_until), (RevocationTarget::Jti("j".into()), 1000, 4600));
        let sub = of("crewcast token revoke --sub u");
        assert_eq!((sub.target, sub.remember_until), (RevocationTarget::Sub("u".into()), 1000 + 31 * 86_400));
        assert!(parse("crewcast token revoke").is_err());
        assert!(parse("crewcast token revoke --jti j --sub u").is_err());
        let empty = RevokeArgs { jti: Some(String::new()), sub: None, remember: Duration::ZERO };
        assert!(empty.revocation(0).is_err());
    }
}
