//! One replica: put together, served, drained.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use crewcast_store::Transport;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    auth::{Auth, AuthSetupError},
    broker::{Broker, BrokerError, Registry, memory::MemoryBroker, redis::RedisBroker},
    config::{BrokerKind, Config},
    connection::{ClientSessions, CoarseTimer, ConnectionContext, ConnectionRegistry},
    console,
    control::{Controls, Reviews},
    dashboards::Dashboards,
    drain::{Drain, DrainOutcome, Signals},
    hub::{Flag, Hub, RingLimits},
    limits::{ConnectionLimits, Rate, open_files, raise_open_files},
    publishing::Publishing,
    ready::Readiness,
    relay::{LinkState, Relay},
    replay::{ChannelReads, History},
    routes::{self, cors},
    stats::{Stats, UsageCounters},
    telemetry::{
        Recorder,
        metrics::{Metric, gauge},
    },
    transport::listener::{self, ListenOptions},
};

/// At most this often all sockets review their grants for changes that concern nobody in particular.
const REVIEW_EVERY: Duration = Duration::from_secs(5);

/// How long requests in flight may hold up the end.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Handshakes that wait to be accepted, as far as the system lets them (`net.core.somaxconn`): beyond it a whole crowd that
/// comes back at once would have to ask again after a second.
const BACKLOG: u32 = 4096;

/// A logged message is the producer's event with an id of at most 41 bytes spliced in.
const ID_MARGIN: usize = 64;

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({key}): {error}")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The keys or claims of `auth` are unusable.
    #[error(transparent)]
    Auth(#[from] AuthSetupError),
    /// The broker's settings are unusable.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A replica that serves.
pub struct Server {
    /// Where sockets, event streams and HTTP are served.
    pub public: SocketAddr,
    /// Where the operator looks.
    pub admin: SocketAddr,
    app: Arc<App>,
    relay: Arc<Relay>,
    /// Ends accepting on the public listener.
    accepting: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds the listeners and starts everything. The broker may still be away: the replica then says so in `/readyz` and waits for it.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, recorder: Option<Recorder>) -> Result<Self, StartError> {
        let public_listener = bind("listen", config.listen.0).await?;
        let admin_listener = bind("admin.listen", config.admin.listen).await?;
        let (broker, registry) = brokers(&config)?;
        let Parts { app, relay, hub } = assemble(config, broker.clone(), registry, recorder)?;
        let (stop, accepting, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let reviews = Arc::new(Reviews::default());
        relay.set_control(Arc::new(Controls::new(app.clone(), hub, reviews.clone())));
        if let Err(error) = broker.start(relay.clone()).await {
            tracing::warn!(%error, "the broker is not there yet; waiting for it");
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
        tracing::info!(public = %server.public, admin = %server.admin, "serving");
        Ok(server)
    }

    /// The publishing side of this replica's broker: `crewcast dev` publishes through it.
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.app.broker.clone()
    }

    /// Serves until the first signal, then goes away as the spec says: not ready, no new sockets, each open
    /// one told and closed at its own moment, the process gone within `drain.grace`, or at once with the second signal.
    pub async fn run(self, signals: impl Signals) -> DrainOutcome {
        let outcome = self.app.drain.clone().run(signals).await;
        // Who was asked to go at once, or has used the grace up, waits for nobody: the process ends.
        if outcome == DrainOutcome::Empty {
            self.stop().await;
        }
        outcome
    }

    /// Ends without telling anybody.
    pub async fn stop(self) {
        self.stop_within(LAST_REQUESTS).await;
    }

    async fn stop_within(self, patience: Duration) {
        self.accepting.cancel();
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
        let _ = tokio::time::timeout(LAST_REQUESTS, self.app.stats.leave()).await;
        self.relay.stop().await;
        self.app.broker.close().await;
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
        self.tasks.spawn(stop.clone().run_until_cancelled_owned(readiness.run(app.broker.clone())));
    }
}

/// One replica's parts, put together and not yet started.
pub(crate) struct Parts {
    pub(crate) app: Arc<App>,
    pub(crate) relay: Arc<Relay>,
    hub: Arc<Hub>,
}

pub(crate) fn assemble(
    config: Config,
    broker: Arc<dyn Broker>,
    registry: Arc<dyn Registry>,
    recorder: Option<Recorder>,
) -> Result<Parts, AuthSetupError> {
    let auth = Auth::new(&config.auth, &config.namespaces, registry.clone())?;
    let limits = &config.limits;
    let ring_limits =
        RingLimits { events: limits.ring_events, bytes: limits.ring_bytes, total_bytes: limits.total_ring_bytes };
    let (hub, demands) = Hub::new(ring_limits);
    let relay =
        Relay::start(hub.clone(), demands, broker.clone(), config.namespaces.clone(), limits.message + ID_MARGIN);
    let drain = Drain::new(&config.drain);
    let connection_limits = ConnectionLimits::new(&config.limits, raise_open_files().unwrap_or_else(|_| open_files()));
    let usage = UsageCounters::new(config.namespaces.clone());
    relay.set_usage(usage.clone());
    let channel_reads = ChannelReads::new(broker.clone());
    let shared = Arc::new(ConnectionContext {
        hub: hub.clone(),
        history: History::new(broker.clone(), hub.clone()),
        dashboards: Dashboards::new(channel_reads.clone(), broker.clone(), config.forge.clone()),
        channel_reads,
        client_sessions: ClientSessions::new(registry.clone()),
        auth: auth.clone(),
        publishing: Publishing::new(auth.clone(), broker.clone(), config.namespaces.clone(), limits.message),
        namespaces: config.namespaces.clone(),
        connection_limits: connection_limits.clone(),
        usage: usage.clone(),
        link: relay.link_state(),
        connections: Arc::new(ConnectionRegistry::default()),
        timer: CoarseTimer::new(),
        drain: drain.clone(),
        limits: config.limits.clone(),
        message_rate: Rate::per_minute(config.limits.messages_per_minute),
        patience: config.broker.patience,
        compression: config.compression.wanted(),
    });
    let app = Arc::new(App {
        stats: Stats::new(usage, hub.clone(), config.namespaces.clone(), registry.clone()),
        readiness: Arc::new(Readiness::new(config.ready.window, drain.clone())),
        drain,
        limits: connection_limits,
        sockets: TaskTracker::new(),
        config: Arc::new(config),
        broker,
        registry,
        auth,
        recorder,
        shared,
    });
    Ok(Parts { app, relay, hub })
}

fn public_router(app: &Arc<App>) -> Router {
    let http = routes::http_routes();
    let http = match cors::layer(&app.config.cors_allowed_origins) {
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
        // As `TcpListener::bind` does: a restart need not wait for the old connections' ends.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| StartError::Bind { key, address, error })
}

fn no_address(key: &'static str, error: std::io::Error) -> StartError {
    StartError::Bind { key, address: SocketAddr::from(([0, 0, 0, 0], 0)), error }
}

type Brokers = (Arc<dyn Broker>, Arc<dyn Registry>);

fn brokers(config: &Config) -> Result<Brokers, StartError> {
    Ok(match config.broker.kind {
        BrokerKind::Memory => {
            let broker = Arc::new(MemoryBroker::new(config.namespaces.clone()));
            (broker.clone(), broker)
        }
        BrokerKind::Redis => {
            let replica = format!("{:08x}", fastrand::u32(..));
            let broker = RedisBroker::new(&config.broker, config.namespaces.clone(), replica)?;
            (broker.clone(), broker)
        }
    })
}

/// Tells every socket of a link that is lost or back.
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

/// Tells every socket when this replica begins to go away.
async fn watch_drain(app: Arc<App>) {
    app.drain.begun().await;
    app.shared.connections.raise(Flag::Drain, |_| true).await;
}

/// Lets every socket review its grants when the auth side has learnt something by itself.
async fn watch_grants(app: Arc<App>) {
    let mut changes = app.auth.changes();
    while changes.changed().await.is_ok() {
        app.shared.connections.raise(Flag::Grants, |_| true).await;
        tokio::time::sleep(REVIEW_EVERY).await;
    }
}
