//! `crewcast check`: tries out the configuration and Redis, and says what is wrong and how to mend it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Namespaces};
use crewcast_gateway::{
    auth::Verifier,
    broker::{Broker, Link, Sink, redis::RedisBroker},
    config::{BrokerKind, Config, ConfigError},
};
use tokio::time::timeout;

use self::server::Server;
use crate::{error::CliError, output, settings::ConfigArgs};

mod server;

/// How long Redis may take for everything together.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of `check`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// One thing that was looked at: what is well, or what is wrong and how to mend it.
pub type Finding = Result<String, String>;

/// Looks at everything and prints it; exit code 1 when anything is wrong.
///
/// # Errors
/// [`CliError::Io`] when nothing can be printed.
pub async fn run(_: Args, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    let findings = match config.load() {
        Ok(loaded) => {
            let mut findings = configuration(&loaded.config);
            findings.extend(broker(&loaded.config).await);
            findings
        }
        Err(CliError::Config(error)) => problems(&error),
        Err(error) => return Err(error),
    };
    for finding in &findings {
        output::line(&match finding {
            Ok(text) => format!("ok     {text}"),
            Err(text) => format!("WRONG  {}", text.replace('\n', "\n       ")),
        })?;
    }
    Ok(if findings.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn problems(error: &ConfigError) -> Vec<Finding> {
    error.0.iter().cloned().map(Err).collect()
}

fn configuration(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Ok("the configuration is understood".to_owned())];
    findings.extend(match (config.check_serve(), Verifier::new(&config.auth)) {
        (Err(error), _) => problems(&error),
        (_, Err(error)) => vec![Err(error.to_string())],
        (Ok(()), Ok(_)) => vec![Ok("tokens can be checked".to_owned())],
    });
    findings
}

async fn broker(config: &Config) -> Vec<Finding> {
    if config.broker.kind == BrokerKind::Memory {
        return vec![Ok("the broker is memory, inside the gateway: there is nothing to reach".to_owned())];
    }
    let mut findings = match timeout(PATIENCE, Server::look(config)).await {
        Ok(Ok(servers)) => servers.iter().flat_map(Server::findings).collect::<Vec<_>>(),
        Ok(Err(error)) => return vec![Err(unreachable(&error))],
        Err(_) => return vec![Err(unreachable(&format!("no answer within {} s", PATIENCE.as_secs())))],
    };
    findings.push(match timeout(PATIENCE, round_trip(config)).await {
        Ok(finding) => finding,
        Err(_) => Err(format!("a published message did not come back within {} s", PATIENCE.as_secs())),
    });
    findings
}

fn unreachable(error: &str) -> String {
    format!(
        "Redis cannot be used: {error}\nSet broker.url (CREWCAST_REDIS_URL) to redis://[user:password@]host:port and see that \
         this machine may connect to it"
    )
}

/// Publishes a message and waits until it has come back through a subscription: what a gateway does.
async fn round_trip(config: &Config) -> Finding {
    // Nothing is captured: that is the business of gateways.
    let mut namespaces: Namespaces = config.namespaces.clone();
    namespaces.0.values_mut().for_each(|namespace| namespace.capture_live = false);
    let replica = format!("check-{:08x}", fastrand::u32(..));
    let failed = |error: &dyn std::fmt::Display| {
        Err(format!(
            "a published message does not come back: {error}\nThe user of broker.url needs the commands PUBLISH, SUBSCRIBE and \
             PSUBSCRIBE, and all channels (ACL: allchannels)"
        ))
    };
    let broker = match RedisBroker::new(&config.broker, namespaces, replica) {
        Ok(broker) => broker,
        Err(error) => return failed(&error),
    };
    let probed = match broker.start(Arc::new(Deaf)).await {
        Ok(()) => broker.probe().await,
        Err(error) => Err(error),
    };
    broker.close().await;
    match probed {
        Ok(took) => Ok(format!("a published message came back in {:.1} ms", took.as_secs_f64() * 1000.0)),
        Err(error) => failed(&error),
    }
}

/// Wants nothing but the probe, which the broker keeps for itself.
struct Deaf;

impl Sink for Deaf {
    fn message(&self, _: &str, _: Bytes) {}
    fn control(&self, _: Bytes) {}
    fn link(&self, _: Link) {}
    fn missed(&self, _: &[Channel]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_a_key_is_wrong_and_says_what_to_set() {
        let findings = configuration(&Config::default());
        assert_eq!(findings.len(), 2);
        let wrong = findings[1].as_ref().unwrap_err();
        assert!(wrong.contains("CREWCAST_AUTH__HS256_SECRET"), "{wrong}");
    }

    #[tokio::test]
    async fn a_memory_broker_needs_nothing() {
        let mut config = Config::default();
        config.broker.kind = BrokerKind::Memory;
        assert!(broker(&config).await.iter().all(Result::is_ok));
    }
}
