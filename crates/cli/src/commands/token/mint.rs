//! `crewcast token --sub …`: mints a token with the configured key.

use std::{process::ExitCode, time::Duration};

use crewcast_events::timestamp::unix_now;
use crewcast_gateway::{
    Identity, Verifier,
    config::{Algorithm, AuthConfig},
    mint,
};
use serde_json::{Map, Value, json};

use super::warn_if_useless;
use crate::{duration, error::CliError, output, settings::ConfigArgs};

/// The claims of the token to mint. Lists are comma-separated; `*` means all ids of the org.
#[derive(clap::Args, Debug, Default)]
#[group(skip)]
pub(crate) struct MintArgs {
    /// The user, claim "sub"
    #[arg(long, required = true, value_name = "USER")]
    pub sub: Option<String>,
    /// The org, the tenant of the user
    #[arg(long)]
    pub org: Option<String>,
    /// Crews that the token may read, or '*' for all crews of the org
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub crews: Vec<String>,
    /// Runs that the token may read, or '*' for all runs of the org
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub runs: Vec<String>,
    /// Streams that the token may read, or '*' for all streams of the org
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub streams: Vec<String>,
    /// Sessions that the token may read, or '*' for all sessions of the org
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub sessions: Vec<String>,
    /// Channels that the token may read in namespaces without an owner; namespace:* for all
    #[arg(long, value_delimiter = ',', value_name = "CHANNEL,…")]
    pub channels: Vec<String>,
    /// Channels that the token may publish to; namespace:* for all
    #[arg(long, value_delimiter = ',', value_name = "CHANNEL,…")]
    pub publish: Vec<String>,
    /// Let the token see the usage of every org
    #[arg(long)]
    pub admin: bool,
    /// Lifetime of the token
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    pub ttl: Duration,
    /// The token's id, for a revocation [default: a random one]
    #[arg(long)]
    pub jti: Option<String>,
}

/// Prints the token. Its `jti` and lifetime go to standard error.
///
/// # Errors
/// [`CliError::Usage`] without a signing key, or for claims that a gateway would refuse.
pub(crate) async fn run(args: MintArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let auth = config.load()?.config.auth;
    let claims = claims(&args, &auth, unix_now());
    let (token, identity) = sign(&auth, &claims).await?;
    output::line(&token)?;
    warn_if_useless(&identity);
    let jti = claims.get("jti").and_then(Value::as_str).unwrap_or_default();
    eprintln!("jti {jti}, expires in {}; revoke with: crewcast token revoke --jti {jti}", duration::rough(args.ttl));
    Ok(ExitCode::SUCCESS)
}

/// Signs the claims, and verifies the result: a token that a gateway would refuse is not printed.
async fn sign(auth: &AuthConfig, claims: &Map<String, Value>) -> Result<(String, Identity), CliError> {
    let Some(secret) = &auth.hs256_secret else {
        return Err(CliError::Usage(
            "no key to sign with: set auth.hs256_secret (CREWCAST_AUTH__HS256_SECRET) to the gateway's secret of 32 \
             bytes or more. With auth.public_key or auth.jwks_url, only the holder of the private key can mint tokens"
                .to_owned(),
        ));
    };
    let algorithm = auth.algorithms.first().copied().unwrap_or(Algorithm::HS256);
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let token = mint(secret, algorithm, claims).map_err(|error| usage(&error))?;
    let verifier = Verifier::new(auth).map_err(|error| usage(&error))?;
    let refused = |error| CliError::Usage(format!("the gateway would refuse this token: {error}"));
    let identity = verifier.verify(&token).await.map_err(refused)?;
    Ok((token, identity))
}

fn claims(args: &MintArgs, auth: &AuthConfig, now: u64) -> Map<String, Value> {
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

/// Sixteen random characters, enough to be unique. An id is not a secret.
fn random_id() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(16).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use crewcast_gateway::{Ids, config::Secret};

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> MintArgs {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Token(args) = cli.command else { panic!() };
        args.mint
    }

    fn auth() -> AuthConfig {
        AuthConfig { hs256_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")), ..AuthConfig::default() }
    }

    #[tokio::test]
    async fn a_minted_token_is_valid_and_grants_what_was_requested() {
        let args =
            parse("crewcast token --sub u1 --org acme --crews a,b --runs * --publish graph:* --ttl 2h --jti j --admin");
        let auth = AuthConfig { issuer: Some("me".into()), audience: vec!["x".into(), "y".into()], ..auth() };
        let (token, _) = sign(&auth, &claims(&args, &auth, unix_now())).await.unwrap();
        let identity = Verifier::new(&auth).unwrap().verify(&token).await.unwrap();
        assert_eq!((&*identity.sub, identity.org.as_deref(), identity.jti.as_deref()), ("u1", Some("acme"), Some("j")));
        assert_eq!(identity.grants.crews, Ids::Listed(["a".into(), "b".into()].into()));
        assert_eq!(identity.grants.runs, Ids::All);
        assert!(identity.admin && identity.grants.publish.contain(&"graph:z".parse().unwrap()));
        let left = identity.expires_at.unwrap() - identity.issued_at.unwrap();
        assert_eq!(left, 7200);
    }

    #[tokio::test]
    async fn without_a_secret_the_error_says_what_to_set() {
        let auth = AuthConfig::default();
        let error = sign(&auth, &claims(&parse("crewcast token --sub u"), &auth, 0)).await.unwrap_err();
        assert!(matches!(&error, CliError::Usage(text) if text.contains("CREWCAST_AUTH__HS256_SECRET")), "{error}");
    }

    #[tokio::test]
    async fn a_token_that_would_be_refused_is_not_minted() {
        let args = parse("crewcast token --sub u --org acme --crews a/b");
        let error = sign(&auth(), &claims(&args, &auth(), unix_now())).await.unwrap_err();
        assert!(error.to_string().contains("crews"), "{error}");
        let expired = claims(&parse("crewcast token --sub u --ttl 0s"), &auth(), unix_now());
        assert!(sign(&auth(), &expired).await.is_err());
    }

    #[test]
    fn sub_is_required_and_each_token_has_a_unique_id() {
        assert!(Cli::try_parse_from(["crewcast", "token", "--org", "acme"]).is_err());
        let args = parse("crewcast token --sub u");
        let jti = || claims(&args, &auth(), 0)["jti"].clone();
        assert_ne!(jti(), jti());
    }
}
