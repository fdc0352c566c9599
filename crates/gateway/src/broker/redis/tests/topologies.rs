//! The conformance suite against every way to run Redis.

use crewcast_test_servers::{Certificates, Cluster, Program, RedisServer, SentinelGroup};

use super::*;
use crate::config::{Sharded, Tls};

/// Servers of one kind, and the configuration that connects a gateway to them.
struct Servers {
    config: BrokerConfig,
    /// Empties the servers that hold data.
    servers: Box<dyn Fn() + Send + Sync>,
}

impl Servers {
    fn new<T: Send + Sync + 'static>(url: String, keep: T, empty: fn(&T)) -> Self {
        let config = BrokerConfig { url: Secret::new(url), ..BrokerConfig::default() };
        Self { config, servers: Box::new(move || empty(&keep)) }
    }

    async fn subject(&self) -> Subject {
        let (broker, sink) = started(&self.config, "conformance").await;
        subject(broker, sink, ())
    }

    fn empty(&self) {
        (self.servers)();
    }
}

fn flush(server: &RedisServer) {
    // A replica refuses: its master empties it.
    let _: redis::RedisResult<()> = server.try_run(&[b"FLUSHALL"]);
}

fn of_cluster(cluster: Cluster) -> Servers {
    Servers::new(cluster.url(), cluster, |cluster| cluster.servers.iter().for_each(flush))
}

fn of_server(url: String, server: RedisServer) -> Servers {
    Servers::new(url, server, flush)
}

mod sentinel {
    use super::*;

    fn make() -> Option<Servers> {
        let group = SentinelGroup::start();
        Some(Servers::new(group.url(), group, |group| flush(&group.servers[group.master()])))
    }

    conformance::suite!(make, one after the other);
}

mod cluster {
    use super::*;

    fn make() -> Option<Servers> {
        Some(of_cluster(Cluster::start()))
    }

    conformance::suite!(make, one after the other);
}

/// A Cluster whose servers know sharded pub/sub, but do not use it.
mod classic_cluster {
    use super::*;

    fn make() -> Option<Servers> {
        let mut servers = of_cluster(Cluster::start());
        servers.config.sharded = Sharded::Never;
        Some(servers)
    }

    conformance::suite!(make, one after the other);
}

/// A Cluster of Redis 6.2, which does not know sharded pub/sub.
mod older_cluster {
    use super::*;

    fn make() -> Option<Servers> {
        Cluster::start_program(Program::Redis62, &[]).map(of_cluster)
    }

    conformance::suite!(make, one after the other);
}

mod older_server {
    use super::*;

    fn make() -> Option<Servers> {
        RedisServer::start_program(Program::Redis62, &[]).map(|server| of_server(server.url(), server))
    }

    conformance::suite!(make, one after the other);
}

mod valkey {
    use super::*;

    fn make() -> Option<Servers> {
        RedisServer::start_program(Program::Valkey, &[]).map(|server| of_server(server.url(), server))
    }

    conformance::suite!(make, one after the other);
}

mod valkey_cluster {
    use super::*;

    fn make() -> Option<Servers> {
        Cluster::start_program(Program::Valkey, &[]).map(of_cluster)
    }

    conformance::suite!(make, one after the other);
}

/// TLS both ways: the server shows its certificate, the client its own.
mod tls {
    use super::*;

    fn make() -> Option<Servers> {
        let certificates = Certificates::make();
        let (server, port) = certificates.start_server();
        let identity = Some((certificates.read("client.pem"), certificates.read("client.key")));
        let tls = Tls { ca: Some(certificates.read("ca.pem")), identity };
        let url = format!("rediss://127.0.0.1:{port}");
        let mut servers = Servers::new(url, (server, certificates), |(server, _)| flush(server));
        servers.config.tls = tls;
        Some(servers)
    }

    conformance::suite!(make, one after the other);

    #[tokio::test]
    async fn a_server_with_an_untrusted_certificate_is_refused() {
        let certificates = Certificates::make();
        let (server, port) = certificates.start_server();
        let servers = of_server(format!("rediss://127.0.0.1:{port}"), server);
        let broker = RedisBroker::new(&servers.config, conformance::namespaces(), "r".to_owned());
        let started = broker.unwrap().start(Arc::new(TestSink::default())).await;
        assert!(matches!(started, Err(crate::broker::BrokerError::Unavailable(_))), "{started:?}");
    }
}

/// A user with exactly the rights that docs/operations.md lists.
mod acl_user {
    use super::*;

    /// The rights, as in docs/operations.md.
    const RIGHTS: &str =
        "~crewcast:* &* +@read +@write +@pubsub +@scripting +@connection +info +role +wait +time +cluster|slots";

    fn make() -> Option<Servers> {
        let rights: Vec<&str> = RIGHTS.split(' ').collect();
        let server = RedisServer::start_with(&[&["--user", "crewcast", "on", ">secret"], &rights[..]].concat());
        Some(of_server(format!("redis://crewcast:secret@{}", server.address()), server))
    }

    conformance::suite!(make, one after the other);

    #[test]
    fn the_operations_page_lists_these_rights() {
        let document = include_str!("../../../../../../docs/operations.md");
        assert!(document.contains(RIGHTS), "docs/operations.md: {RIGHTS}");
    }
}

mod unix_socket {
    use super::*;

    fn make() -> Option<Servers> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("redis.sock").to_str().unwrap().to_owned();
        let server = RedisServer::start_with(&["--unixsocket", &path]);
        Some(Servers::new(format!("unix://{path}"), (server, directory), |(server, _)| flush(server)))
    }

    conformance::suite!(make, one after the other);
}
