//! One replica: assembled, served, drained.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use crewcast_store::Transport;
use crewcast_websocket::deflate;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    adoption::{self, Adoption, CrewWatches},
    app::App,
    auth::{Auth, AuthSetupError},
    broker::{Broker, BrokerError, memory::MemoryBroker, redis::RedisBroker},
    config::{self, BrokerKind, Config},
    connection::{ClientSessions, CoarseTimer, ConnectionContext, ConnectionRegistry},
    console,
    control::{Controls, Reviews},
    dashboards::Dashboards,
    drain::{DrainController, DrainOutcome, Signals},
    http::listener::{self, ListenOptions},
    hub::{Flag, Hub, RingLimits},
    limits::{ConnectionLimits, Rate, open_files, raise_open_files},
    publishing::Publishing,
    ready::Readiness,
    registry::{RedisRegistry, Registry},
    relay::{LinkState, Relay},
    replay::{ChannelReads, History},
    routes::{self, cors},
    stats::{Stats, UsageCounters},
    telemetry::{
        Recorder,
        metrics::{Metric, gauge},
    },
};

/// All sockets review their grants at most this often for changes that concern no org in particular.
const REVIEW_EVERY: Duration = Duration::from_secs(5);

/// How long requests in flight may delay the end.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Connections that wait to be accepted, as far as the system allows (`net.core.somaxconn`). With a smaller backlog,
/// clients that reconnect all at once would have to retry after a second.
const BACKLOG: u32 = 4096;

/// A logged message is the producer's event with an id of at most 41 bytes inserted.
const ID_MARGIN: usize = 64;

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({key}): {error}{}", bind_advice(key, error))]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why it could not be bound.
        error: std::io::Error,
    },
    /// The keys or claims in `auth` are not usable.
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    /// The broker's settings are not usable.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A running replica.
pub struct Server {
    /// The address for sockets, event streams and HTTP.
    pub public: SocketAddr,
    /// The address for the operator.
    pub admin: SocketAddr,
    app: Arc<App>,
    relay: Arc<Relay>,
    /// Stops accepting on the public listener.
    accepting: CancellationToken,
    /// Stops everything else.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds the listeners and starts everything. The broker may still be down: the replica then reports so in
    /// `/readyz` and waits for it.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, recorder: Option<Recorder>) -> Result<Self, StartError> {
        let public_listener = bind("listen", config.listen.0).await?;
        let admin_listener = bind("admin.listen", config.admin.listen).await?;
        let (broker, registry) = brokers(&config)?;
        let Parts { app, relay, hub } = assemble(config, broker.clone(), registry, recorder)?;
        let (adoption, sightings) = adoption(&app, &hub);
        relay.set_sightings(adoption.clone());
        let (stop, accepting, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let reviews = Arc::new(Reviews::default());
        relay.set_control(Arc::new(Controls::new(app.clone(), hub, adoption.clone(), reviews.clone())));
        if let Err(error) = broker.pubsub.start(relay.clone()).await {
            tracing::warn!(%error, "the broker does not answer yet: waiting for it");
        }
        app.auth.start(stop.clone()).await;

        let server = Self {
            public: public_listener.local_addr().map_err(|error| no_address("listen", error))?,
            admin: admin_listener.local_addr().map_err(|error| no_address("admin.listen", error))?,
            app: app.clone(),
            relay,
            accepting,
            stop,
            tasks,
        };
        server.spawn_listeners(public_listener, admin_listener);
        server.spawn_watchers(reviews);
        server.tasks.spawn(server.stop.clone().run_until_cancelled_owned(adoption.serve(sightings)));
        tracing::info!(public = %server.public, admin = %server.admin, "serving");
        Ok(server)
    }

    /// The publishing side of this replica's broker, which `crewcast dev` uses.
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.app.broker.transport.clone()
    }

    /// Serves until the first signal, then drains as the spec requires: not ready, no new sockets, each open one
    /// notified and closed at its own moment. The process ends within `drain.grace`, or immediately at the second
    /// signal.
    pub async fn run(self, signals: impl Signals) -> DrainOutcome {
        let outcome = self.app.drain.clone().run(signals).await;
        // After a forced drain, or when the grace period is used up, the process ends without waiting.
        if outcome == DrainOutcome::Empty {
            self.stop().await;
        }
        outcome
    }

    /// Stops without notifying the clients.
    pub async fn stop(self) {
        self.stop_within(LAST_REQUESTS).await;
    }

    async fn stop_within(self, patience: Duration) {
        self.accepting.cancel();
        self.stop.cancel();
        self.tasks.close();
        let ended = async { tokio::join!(self.tasks.wait(), self.readers_stopped()) };
        let _ = tokio::time::timeout(patience, ended).await;
        let _ = tokio::time::timeout(LAST_REQUESTS, self.app.stats.leave()).await;
        self.relay.stop().await;
        self.app.broker.pubsub.close().await;
    }

    /// Returns when the tasks that read for all connections have ended.
    async fn readers_stopped(&self) {
        let shared = &self.app.shared;
        tokio::join!(shared.auth.stopped(), shared.history.stopped(), shared.dashboards.stop());
    }

    fn spawn_listeners(&self, public: TcpListener, admin: TcpListener) {
        let options = ListenOptions {
            handshake: self.app.config.limits.handshake,
            trusted_proxies: self.app.config.trusted_proxies.clone(),
        };
        self.tasks.spawn(listener::serve(public, public_router(&self.app), options, self.accepting.clone()));
        let options = ListenOptions { handshake: self.app.config.limits.handshake, trusted_proxies: Vec::new() };
        let router = routes::admin_routes().with_state(self.app.clone());
        self.tasks.spawn(listener::serve(admin, router, options, self.stop.clone()));
    }

    fn spawn_watchers(&self, reviews: Arc<Reviews>) {
        let (app, stop) = (self.app.clone(), &self.stop);
        let connections = app.shared.connections.clone();
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(reviews.serve(connections)));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(app.shared.timer.clone().run()));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(app.stats.clone().report()));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(watch_link(app.clone())));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(watch_grants(app.clone())));
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(watch_drain(app.clone())));
        if let Some(recorder) = app.recorder.clone() {
            self.tasks.spawn(stop.clone().run_until_cancelled_owned(async move { recorder.upkeep().await }));
        }
        let readiness = app.readiness.clone();
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(readiness.run(app.broker.pubsub.clone())));
    }
}

/// The parts of one replica, assembled but not yet started.
pub(crate) struct Parts {
    pub(crate) app: Arc<App>,
    pub(crate) relay: Arc<Relay>,
    hub: Arc<Hub>,
}

pub(crate) fn assemble(
    config: Config,
    broker: Broker,
    registry: Registry,
    recorder: Option<Recorder>,
) -> Result<Parts, AuthSetupError> {
    let auth = Auth::new(
        &config.auth,
        &config.namespaces,
        registry.directory.clone(),
        registry.revocations,
        registry.tickets,
    )?;
    auth.set_adopter(adopter(&config));
    let limits = &config.limits;
    let ring_limits =
        RingLimits { events: limits.ring_events, bytes: limits.ring_bytes.0, total_bytes: limits.total_ring_bytes.0 };
    let (hub, demands) = Hub::new(ring_limits);
    let relay =
        Relay::start(hub.clone(), demands, broker.clone(), config.namespaces.clone(), limits.message.0 + ID_MARGIN);
    let drain = DrainController::new(&config.drain);
    let connection_limits = ConnectionLimits::new(&config.limits, raise_open_files().unwrap_or_else(|_| open_files()));
    let usage = UsageCounters::new(config.namespaces.clone());
    relay.set_usage(usage.clone());
    let channel_reads = ChannelReads::new(broker.log.clone());
    let shared = Arc::new(ConnectionContext {
        hub: hub.clone(),
        history: History::new(broker.log.clone(), hub.clone()),
        dashboards: Dashboards::new(channel_reads.clone(), broker.log.clone(), config.forge.clone()),
        channel_reads,
        client_sessions: ClientSessions::new(registry.clients),
        auth: auth.clone(),
        publishing: Publishing::new(
            auth.clone(),
            broker.transport.clone(),
            config.namespaces.clone(),
            limits.message.0,
        ),
        namespaces: config.namespaces.clone(),
        connection_limits: connection_limits.clone(),
        crew_watches: CrewWatches::new(hub.clone(), auth.clone(), config.namespaces.clone()),
        usage: usage.clone(),
        link: relay.link_state(),
        connections: Arc::new(ConnectionRegistry::default()),
        timer: CoarseTimer::new(),
        drain: drain.clone(),
        limits: config.limits.clone(),
        message_rate: Rate::per_minute(config.limits.messages_per_minute),
        patience: config.broker.patience,
        compression: compression(&config.compression),
    });
    let app = Arc::new(App {
        stats: Stats::new(usage, hub.clone(), config.namespaces.clone(), registry.usage),
        readiness: Arc::new(Readiness::new(config.ready.window, drain.clone())),
        drain,
        limits: connection_limits,
        sockets: TaskTracker::new(),
        config: Arc::new(config),
        broker,
        directory: registry.directory,
        auth,
        recorder,
        shared,
    });
    Ok(Parts { app, relay, hub })
}

fn adoption(app: &App, hub: &Arc<Hub>) -> (Arc<Adoption>, adoption::WaitingSightings) {
    let (transport, namespaces) = (app.broker.transport.clone(), app.config.namespaces.clone());
    Adoption::new(app.auth.clone(), transport, hub.clone(), namespaces, adopter(&app.config))
}

/// The org that ids without an owner go to.
fn adopter(config: &Config) -> Option<String> {
    config.auth.default_org.clone().filter(|_| config.directory.adopt)
}

/// How events are compressed, if at all.
fn compression(config: &config::Compression) -> Option<deflate::Compression> {
    config.enabled.then_some(deflate::Compression { threshold: config.threshold.0, level: config.level })
}

fn public_router(app: &Arc<App>) -> Router {
    let http = routes::http_routes();
    let http = match cors::layer(app.config.http_origins(), &app.config.cors.allowed_headers) {
        Some(layer) => http.layer(layer),
        None => http,
    };
    http.merge(routes::socket_routes())
        .merge(console::routes())
        .method_not_allowed_fallback(routes::method_not_allowed)
        .fallback(routes::no_such_endpoint)
        .with_state(app.clone())
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Like `TcpListener::bind`: a restart need not wait for the old connections to end.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| StartError::Bind { key, address, error })
}

/// What to do about a port that cannot be bound.
fn bind_advice(key: &str, error: &std::io::Error) -> String {
    let variable = key.to_uppercase().replace('.', "__");
    let set = format!("set another address: --set {key}=127.0.0.1:PORT, or CREWCAST_{variable}");
    match error.kind() {
        ErrorKind::AddrInUse => format!("\nEnd the program that uses the port, or {set}"),
        ErrorKind::PermissionDenied => format!("\nPorts below 1024 need a privilege: {set}"),
        ErrorKind::AddrNotAvailable => format!("\nThis machine has no such address: {set}"),
        _ => String::new(),
    }
}

fn no_address(key: &'static str, error: std::io::Error) -> StartError {
    StartError::Bind { key, address: SocketAddr::from(([0, 0, 0, 0], 0)), error }
}

/// The broker and the registry, over one store.
fn brokers(config: &Config) -> Result<(Broker, Registry), StartError> {
    Ok(match config.broker.kind {
        BrokerKind::Memory => {
            let broker = Arc::new(MemoryBroker::new(config.namespaces.clone()));
            (Broker::of(broker.clone()), Registry::of(broker))
        }
        BrokerKind::Redis => {
            let replica = format!("{:08x}", fastrand::u32(..));
            let make = if config.directory.adopt { RedisBroker::overhearing } else { RedisBroker::new };
            let broker = make(&config.broker, config.namespaces.clone(), replica)?;
            let registry = RedisRegistry::beside(&broker);
            (Broker::of(broker), Registry::of(Arc::new(registry)))
        }
    })
}

/// Notifies every socket when the link is lost or back.
async fn watch_link(app: Arc<App>) {
    let mut link = app.shared.link.clone();
    loop {
        let is_up = *link.borrow_and_update() == LinkState::Up;
        gauge(Metric::BrokerUp, &[]).set(f64::from(u8::from(is_up)));
        app.shared.connections.raise(Flag::Link, |_| true).await;
        if link.changed().await.is_err() {
            return;
        }
    }
}

/// Notifies every socket when this replica begins to drain.
async fn watch_drain(app: Arc<App>) {
    app.drain.begun().await;
    app.shared.connections.raise(Flag::Drain, |_| true).await;
}

/// Makes every socket review its grants when the auth side reports a change.
async fn watch_grants(app: Arc<App>) {
    let mut changes = app.auth.changes();
    while changes.changed().await.is_ok() {
        app.shared.connections.raise(Flag::Grants, |_| true).await;
        tokio::time::sleep(REVIEW_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Secret, dashboards::Dashboard};

    #[tokio::test]
    async fn what_reads_for_all_connections_ends_with_the_server() {
        let mut config = Config::default();
        config.broker.kind = BrokerKind::Memory;
        config.listen.0.set_port(0);
        config.admin.listen.set_port(0);
        config.auth.hs256_secret = Some(Secret::new("a secret of the tests, long enough"));
        let server = Server::start(config, None).await.unwrap();
        let (auth, dashboards) = (server.app.auth.clone(), server.app.shared.dashboards.clone());
        let watched = dashboards.watch(Dashboard::Metrics, "acme".into()).next().await.expect("a document");
        server.stop().await;
        // Each task holds on to what it reads for.
        assert_eq!((Arc::strong_count(&auth), Arc::strong_count(&dashboards)), (1, 1));
        drop(watched);
    }
}
