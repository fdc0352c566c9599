//! `crewcast token --sub …`: mints a token with the configured key.

use std::{process::ExitCode, time::Duration};

use crewcast_events::timestamp::unix_now;
use crewcast_gateway::{
    auth::{Verifier, mint},
    config::{Algorithm, AuthConfig},
};
use serde_json::{Map, Value, json};

use crate::{duration, error::CliError, output, settings::ConfigArgs};

/// What to mint. Lists are written with commas; `*` means all that the org has.
#[derive(clap::Args, Debug, Default)]
#[group(skip)]
pub struct Args {
    /// The user
    #[arg(long, required = true, value_name = "USER")]
    pub sub: Option<String>,
    /// The tenant
    #[arg(long)]
    pub org: Option<String>,
    /// Crews that may be watched, or '*'
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub crews: Vec<String>,
    /// Runs that may be watched, or '*'
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub runs: Vec<String>,
    /// Streams that may be watched, or '*'
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub streams: Vec<String>,
    /// Sessions that may be watched, or '*'
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub sessions: Vec<String>,
    /// Channels of namespaces without an owner, or namespace:*
    #[arg(long, value_delimiter = ',', value_name = "CHANNEL,…")]
    pub channels: Vec<String>,
    /// Channels that may be published to, or namespace:*
    #[arg(long, value_delimiter = ',', value_name = "CHANNEL,…")]
    pub publish: Vec<String>,
    /// Sees the figures of every org
    #[arg(long)]
    pub admin: bool,
    /// How long it lives
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    pub ttl: Duration,
    /// The token's own id, by which it can be revoked [default: a random one]
    #[arg(long)]
    pub jti: Option<String>,
}

/// Prints the token; its `jti` and lifetime go to standard error.
///
/// # Errors
/// [`CliError`]; `Usage` without a key to sign with, or for claims that no gateway would accept.
pub async fn run(args: Args, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let auth = config.load()?.config.auth;
    let claims = claims(&args, &auth, unix_now());
    let token = sign(&auth, &claims).await?;
    output::line(&token)?;
    let jti = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    eprintln!("jti {jti}, expires in {}; revoke with: crewcast token revoke --jti {jti}", duration::rough(args.ttl));
    Ok(ExitCode::SUCCESS)
}

/// Signs and, so that nobody is handed a token that is refused, verifies.
async fn sign(auth: &AuthConfig, claims: &Map<String, Value>) -> Result<String, CliError> {
    let Some(secret) = &auth.hs256_secret else {
        return Err(CliError::Usage(
            "no key to sign with: set auth.hs256_secret (CREWCAST_AUTH__HS256_SECRET) to the gateway's secret of 32 bytes or \
             more. With auth.public_key or auth.jwks_url tokens come from whoever has the private key"
                .to_owned(),
        ));
    };
    let algorithm = auth.algorithms.first().copied().unwrap_or(Algorithm::HS256);
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let token = mint(secret, algorithm, claims).map_err(|error| usage(&error))?;
    let verifier = Verifier::new(auth).map_err(|error| usage(&error))?;
    let refused = |error| CliError::Usage(format!("the gateway would refuse this token: {error}"));
    verifier.verify(&token).await.map_err(refused)?;
    Ok(token)
}

fn claims(args: &Args, auth: &AuthConfig, now: u64) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    put("sub", json!(args.sub));
    put("iat", json!(now));
    put("exp", json!(now.saturating_add(args.ttl.as_secs())));
    put("jti", json!(args.jti.clone().unwrap_or_else(random_id)));
    if let Some(org) = &args.org {
        put("org", json!(org));
    }
    for (name, ids) in [
        ("crews", &args.crews),
        ("runs", &args.runs),
        ("streams", &args.streams),
        ("sessions", &args.sessions),
        ("channels", &args.channels),
        ("publish", &args.publish),
    ] {
        if !ids.is_empty() {
            put(name, json!(ids));
        }
    }
    if args.admin {
        put("admin", json!(true));
    }
    if let Some(issuer) = &auth.issuer {
        put("iss", json!(issuer));
    }
    if let Some(audience) = auth.audience.first() {
        put("aud", json!(audience));
    }
    claims
}

/// Sixteen random characters: enough that no two tokens share them. It is a name, not a secret.
fn random_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(16).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use crewcast_gateway::{auth::Ids, config::Secret};

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Args {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Token(args) = cli.command else { panic!() };
        args.mint
    }

    fn auth() -> AuthConfig {
        AuthConfig { hs256_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")), ..AuthConfig::default() }
    }

    #[tokio::test]
    async fn what_is_minted_is_accepted_and_grants_what_was_asked() {
        let args =
            parse("crewcast token --sub u1 --org acme --crews a,b --runs * --publish graph:* --ttl 2h --jti j --admin");
        let auth = AuthConfig { issuer: Some("me".into()), audience: vec!["x".into(), "y".into()], ..auth() };
        let token = sign(&auth, &claims(&args, &auth, unix_now())).await.unwrap();
        let identity = Verifier::new(&auth).unwrap().verify(&token).await.unwrap();
        assert_eq!((&*identity.sub, identity.org.as_deref(), identity.jti.as_deref()), ("u1", Some("acme"), Some("j")));
        assert_eq!(identity.grants.crews, Ids::Listed(["a".into(), "b".into()].into()));
        assert_eq!(identity.grants.runs, Ids::All);
        assert!(identity.admin && identity.grants.publish.contain(&"graph:z".parse().unwrap()));
        let left = identity.expires_at.unwrap() - identity.issued_at.unwrap();
        assert_eq!(left, 7200);
    }

    #[tokio::test]
    async fn without_a_secret_it_says_what_to_set() {
        let auth = AuthConfig::default();
        let error = sign(&auth, &claims(&parse("crewcast token --sub u"), &auth, 0)).await.unwrap_err();
        assert!(matches!(&error, CliError::Usage(text) if text.contains("CREWCAST_AUTH__HS256_SECRET")), "{error}");
    }

    #[tokio::test]
    async fn a_token_that_would_be_refused_is_not_handed_out() {
        let args = parse("crewcast token --sub u --org acme --crews a/b");
        let error = sign(&auth(), &claims(&args, &auth(), unix_now())).await.unwrap_err();
        assert!(error.to_string().contains("crews"), "{error}");
        let expired = claims(&parse("crewcast token --sub u --ttl 0s"), &auth(), unix_now());
        assert!(sign(&auth(), &expired).await.is_err());
    }

    #[test]
    fn sub_is_required_and_each_token_has_an_id_of_its_own() {
        assert!(Cli::try_parse_from(["crewcast", "token", "--org", "acme"]).is_err());
        let args = parse("crewcast token --sub u");
        let jti = || claims(&args, &auth(), 0)["jti"].clone();
        assert_ne!(jti(), jti());
    }
}
