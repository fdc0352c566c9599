//! The conformance suite against a real server, and what only a dedicated server can show.

mod captures;
mod failovers;
mod many;
mod outages;
mod reading;
mod topologies;

use std::sync::Arc;

use crewcast_test_servers::RedisServer;

use super::RedisBroker;
use crate::{
    broker::{
        Link, LogStore, PubSub,
        conformance::{self, Subject, TestSink},
    },
    config::{BrokerConfig, Secret},
    registry::RedisRegistry,
};

fn config(server: &RedisServer) -> BrokerConfig {
    BrokerConfig { url: Secret::new(server.url()), ..BrokerConfig::default() }
}

async fn started(config: &BrokerConfig, replica: &str) -> (Arc<RedisBroker>, Arc<TestSink>) {
    let broker = RedisBroker::new(config, conformance::namespaces(), replica.to_owned()).unwrap();
    let sink = Arc::new(TestSink::default());
    broker.start(sink.clone()).await.unwrap();
    assert_eq!(sink.links(), [Link::Up]);
    (broker, sink)
}

fn subject<T: Send + Sync + 'static>(broker: Arc<RedisBroker>, sink: Arc<TestSink>, keep: T) -> Subject {
    let registry = Arc::new(RedisRegistry::beside(&broker));
    Subject { broker, registry, sink, _keep: Box::new(keep) }
}

async fn make() -> Subject {
    let server = RedisServer::start();
    let (broker, sink) = started(&config(&server), "conformance").await;
    subject(broker, sink, server)
}

conformance::suite!(make);

/// Prefixes change the names in Redis, and nothing else.
mod prefixed {
    use super::*;

    async fn make() -> Subject {
        let server = RedisServer::start();
        let config =
            BrokerConfig { key_prefix: "other".to_owned(), channel_prefix: "pre*[fix]:".to_owned(), ..config(&server) };
        let (broker, sink) = started(&config, "prefixed").await;
        subject(broker, sink, server)
    }

    conformance::suite!(make; delivers_in_order_after_subscribe, live_messages_are_captured, probe_comes_back,
        the_first_owner_stays,);
}
