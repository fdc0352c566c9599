//! `crewcast check`: tests the configuration and Redis, and says what is wrong and how to fix it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Namespaces};
use crewcast_gateway::{
    Link, PubSub, RedisBroker, Sink, Verifier,
    config::{BrokerKind, Config, ConfigError},
};
use serde_json::json;
use tokio::time::timeout;

use self::server_report::ServerReport;
use crate::{error::CliError, output, settings::ConfigArgs};

mod server_report;

/// How long each part of the test of Redis may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub(crate) struct CheckArgs {
    /// Print one JSON object: "ok", and the "findings", each with "ok" and "text"
    #[arg(long)]
    pub json: bool,
}

/// The result of one test: what is right, or what is wrong and how to fix it.
pub(crate) type Finding = Result<String, String>;

/// Runs all tests and prints the findings. The exit code is 1 if anything is wrong.
///
/// # Errors
/// [`CliError::Io`] when standard output cannot be written.
pub(crate) async fn run(args: CheckArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let findings = match config.load() {
        Ok(loaded) => {
            let mut findings = configuration(&loaded.config);
            findings.extend(broker(&loaded.config).await);
            findings
        }
        Err(CliError::Config(error)) => problems(&error),
        Err(error) => return Err(error),
    };
    let is_ok = findings.iter().all(Result::is_ok);
    if args.json {
        let listed: Vec<_> = findings.iter().map(as_json).collect();
        output::line(&json!({"ok": is_ok, "findings": listed}).to_string())?;
        return Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for finding in &findings {
        output::line(&match finding {
            Ok(text) => format!("ok     {text}"),
            Err(text) => format!("WRONG  {}", text.replace('\n', "\n       ")),
        })?;
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let (Ok(text) | Err(text)) = finding;
    json!({"ok": finding.is_ok(), "text": text})
}

fn problems(error: &ConfigError) -> Vec<Finding> {
    error.0.iter().cloned().map(Err).collect()
}

fn configuration(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Ok("the configuration is valid".to_owned())];
    findings.extend(match (config.check_serve(), Verifier::new(&config.auth)) {
        (Err(error), _) => problems(&error),
        (_, Err(error)) => vec![Err(error.to_string())],
        (Ok(()), Ok(_)) => vec![Ok("the keys for tokens can be used".to_owned())],
    });
    findings
}

async fn broker(config: &Config) -> Vec<Finding> {
    if config.broker.kind == BrokerKind::Memory {
        return vec![Ok("broker.kind is memory: the broker runs inside the gateway".to_owned())];
    }
    let mut findings = match timeout(TIMEOUT, ServerReport::fetch(config)).await {
        Ok(Ok(servers)) => servers.iter().flat_map(ServerReport::findings).collect::<Vec<_>>(),
        Ok(Err(error)) => return vec![Err(unreachable(&error))],
        Err(_) => return vec![Err(unreachable(&format!("no answer within {} s", TIMEOUT.as_secs())))],
    };
    findings.push(match timeout(TIMEOUT, round_trip(config)).await {
        Ok(finding) => finding,
        Err(_) => Err(format!("a published message did not come back within {} s", TIMEOUT.as_secs())),
    });
    findings
}

fn unreachable(error: &str) -> String {
    format!(
        "Redis cannot be used: {error}\nSet broker.url (CREWCAST_REDIS_URL) to redis://[user:password@]host:port and \
         check that this machine can connect to it"
    )
}

/// Publishes a message and waits until it comes back through a subscription, as a gateway does.
async fn round_trip(config: &Config) -> Finding {
    // Storing live events as retained values is left to gateways.
    let mut namespaces: Namespaces = config.namespaces.clone();
    namespaces.0.values_mut().for_each(|namespace| namespace.capture_live = false);
    let replica = format!("check-{:08x}", fastrand::u32(..));
    let failed = |error: &dyn std::fmt::Display| {
        Err(format!(
            "a published message did not come back: {error}\nGrant the user of broker.url the commands PUBLISH, \
             SUBSCRIBE and PSUBSCRIBE, and all channels (ACL: allchannels)"
        ))
    };
    let broker = match RedisBroker::new(&config.broker, namespaces, replica) {
        Ok(broker) => broker,
        Err(error) => return failed(&error),
    };
    let probed = match broker.start(Arc::new(IgnoreMessages)).await {
        Ok(()) => broker.probe().await,
        Err(error) => Err(error),
    };
    broker.close().await;
    match probed {
        Ok(took) => Ok(format!("a published message came back in {:.1} ms", took.as_secs_f64() * 1000.0)),
        Err(error) => failed(&error),
    }
}

/// Ignores all messages. The broker itself handles the probe.
struct IgnoreMessages;

impl Sink for IgnoreMessages {
    fn message(&self, _: &str, _: Bytes) {}
    fn control(&self, _: Bytes) {}
    fn link(&self, _: Link) {}
    fn missed(&self, _: &[Channel]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_a_key_says_what_to_set() {
        let findings = configuration(&Config::default());
        assert_eq!(findings.len(), 2);
        let wrong = findings[1].as_ref().unwrap_err();
        assert!(wrong.contains("CREWCAST_AUTH__HS256_SECRET"), "{wrong}");
    }

    #[tokio::test]
    async fn a_memory_broker_needs_no_redis() {
        let mut config = Config::default();
        config.broker.kind = BrokerKind::Memory;
        assert!(broker(&config).await.iter().all(Result::is_ok));
    }
}
