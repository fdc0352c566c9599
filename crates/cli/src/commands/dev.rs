//! `crewcast dev`: gateway, memory broker and simulated crews in one process.

use std::{io::ErrorKind, net::SocketAddr, process::ExitCode, sync::Arc};

use crewcast_events::Kind;
use crewcast_gateway::{
    Server, ShutdownSignal, StartError,
    config::{Algorithm, BrokerKind, Config, Loaded, Secret, Source, Sources},
    mint, shutdown_signal,
    telemetry::{self, Recorder},
};
use crewcast_publisher::{Ownership, OwnershipMode, Publisher, Transport};
use serde_json::{Map, Value, json};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{browsable, host_and_port},
    dev::{Addresses, SimulationOptions, banner, run as simulate},
    error::CliError,
    output,
    settings::ConfigArgs,
};

/// The org of the simulated crews and of the printed token.
const ORG: &str = "dev";
/// The pages of development servers on this machine, on whatever port.
const LOCAL_PAGES: [&str; 2] = ["http://localhost:*", "http://127.0.0.1:*"];
/// What the printed token may publish.
const PUBLISH: [&str; 10] = [
    "graph:*",
    "mission:*",
    "run:*",
    "stream:*",
    "session:*",
    "hub:*",
    "agents:*",
    "tasks:*",
    "knowledge:*",
    "metrics:*",
];
/// How long the crews may take to end their runs when they are stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How many ports after a default one are tried while they are in use.
const PORTS: u16 = 100;

/// Arguments of `dev`.
#[derive(clap::Args, Debug)]
pub(crate) struct DevArgs {
    /// Repeat an earlier simulation: the seed that it printed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Speed of the simulation: 2 is twice as fast
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Run only the gateway, without simulated crews
    #[arg(long)]
    pub quiet: bool,
}

/// Serves and simulates until Ctrl-C. Prints a banner with addresses and commands.
///
/// # Errors
/// [`CliError`] when the gateway cannot start.
pub(crate) async fn run(args: DevArgs, config: &ConfigArgs) -> Result<ExitCode, CliError> {
    if !(args.speed.is_finite() && args.speed > 0.0) {
        return Err(CliError::Usage("--speed must be a number above 0".to_owned()));
    }
    let loaded = config.load()?;
    let fixed = loaded.sources.clone();
    let (config, secret) = development(loaded);
    let redis = (config.broker.kind == BrokerKind::Redis).then(|| host_and_port(&config)).flatten();
    let guard = telemetry::init(&config).map_err(CliError::failed)?;
    let recorder = telemetry::install().map_err(CliError::failed)?;
    let signals = shutdown_signal().map_err(CliError::failed)?;
    let publisher_settings = Publisher::builder()
        .org(ORG)
        .key_prefix(&config.broker.key_prefix)
        .channel_prefix(&config.broker.channel_prefix)
        .namespaces(config.namespaces.clone());
    let (server, moved) = start(config, &recorder, &fixed).await?;
    own_the_crew_of_the_banner(server.transport());
    let publisher = publisher_settings.with_transport(server.transport());

    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
    let addresses = Addresses {
        gateway: format!("http://{}", browsable(server.public)),
        admin: format!("http://{}", browsable(server.admin)),
        program: std::env::args().next().unwrap_or_else(|| "crewcast".to_owned()),
        redis,
        simulation: (!args.quiet).then_some(seed),
        moved,
    };
    output::line(banner(&addresses, &token(&secret)?).trim_end())?;
    let outcome = serve(server, signals, publisher, &args, seed).await;
    guard.shutdown().await;
    Ok(outcome)
}

async fn serve(server: Server, signals: ShutdownSignal, publisher: Publisher, args: &DevArgs, seed: u64) -> ExitCode {
    let stop = CancellationToken::new();
    let options = SimulationOptions { seed, speed: args.speed, stop: stop.clone() };
    let crews = (!args.quiet).then(|| tokio::spawn(simulate(publisher, options)));
    let outcome = server.run(signals).await;
    stop.cancel();
    if let Some(crews) = crews {
        // The crews end their runs. A timeout is fine: there are no subscribers any more.
        let _ = tokio::time::timeout(STOP_TIMEOUT, crews).await;
    }
    ExitCode::from(outcome.exit_code())
}

/// Starts the gateway. A default port that is in use is replaced by the next free one; also returns a note on each.
async fn start(mut config: Config, recorder: &Recorder, set: &Sources) -> Result<(Server, Vec<String>), CliError> {
    let (public, admin) = (config.listen.0.port(), config.admin.listen.port());
    loop {
        match Server::start(config.clone(), Some(recorder.clone())).await {
            Ok(server) => {
                let notes = [(public, server.public), (admin, server.admin)];
                let moved = notes.into_iter().filter(|(wanted, got)| *wanted != 0 && *wanted != got.port());
                let note = |(wanted, got): (u16, SocketAddr)| format!("{wanted} is in use: {} instead", got.port());
                return Ok((server, moved.map(note).collect()));
            }
            Err(StartError::Bind { key, address, error })
                if error.kind() == ErrorKind::AddrInUse && *set.of(key) == Source::Default =>
            {
                let (listen, wanted) = match key {
                    "listen" => (&mut config.listen.0, public),
                    _ => (&mut config.admin.listen, admin),
                };
                if address.port() - wanted >= PORTS {
                    return Err(CliError::failed(StartError::Bind { key, address, error }));
                }
                listen.set_port(address.port() + 1);
            }
            Err(error) => return Err(CliError::failed(error)),
        }
    }
}

/// The banner's commands use a crew and a run that nobody owns without the simulation.
fn own_the_crew_of_the_banner(transport: Arc<dyn Transport>) {
    let owned = |kind, id: &str, crew: Option<&str>| Ownership {
        kind,
        id: id.to_owned(),
        org: ORG.to_owned(),
        crew: crew.map(str::to_owned),
    };
    tokio::spawn(async move {
        for ownership in [owned(Kind::Crew, "forge", None), owned(Kind::Run, "mine", Some("forge"))] {
            if let Err(error) = transport.register(&ownership, OwnershipMode::Keep).await {
                tracing::warn!(%error, id = ownership.id, "not registered for the org of the printed token");
            }
        }
    });
}

/// Replaces defaults with settings for development.
///
/// These are: listen on this machine only, the memory broker, a new secret for each start, pages of this machine only,
/// and a short drain.
fn development(loaded: Loaded) -> (Config, Secret) {
    let Loaded { mut config, sources, .. } = loaded;
    let is_default = |key: &str| *sources.of(key) == Source::Default;
    if is_default("listen") {
        config.listen.0 = SocketAddr::from(([127, 0, 0, 1], 8000));
    }
    if is_default("broker.kind") && is_default("broker.url") {
        config.broker.kind = BrokerKind::Memory;
    }
    if is_default("drain.spread") && is_default("drain.grace") {
        config.drain.spread = Duration::from_millis(500);
        config.drain.grace = Duration::from_secs(3);
    }
    if is_default("log.level") {
        config.log.level = "warn".to_owned();
    }
    config.auth.development = true;
    if is_default("allowed_origins") {
        config.allowed_origins = LOCAL_PAGES.iter().filter_map(|origin| origin.parse().ok()).collect();
    }
    let secret = match &config.auth.hs256_secret {
        Some(secret) => secret.clone(),
        None => Secret::new((0..48).map(|_| fastrand::alphanumeric()).collect::<String>()),
    };
    config.auth.hs256_secret = Some(secret.clone());
    (config, secret)
}

fn token(secret: &Secret) -> Result<String, CliError> {
    let now = crewcast_events::timestamp::unix_now();
    let claims = json!({
        "sub": "developer", "org": ORG, "crews": "*", "runs": "*", "streams": "*", "sessions": "*", "publish": PUBLISH,
        "iat": now, "exp": now + 7 * 24 * 3600, "admin": true,
    });
    let claims: Map<String, Value> = claims.as_object().cloned().unwrap_or_default();
    mint(secret, Algorithm::HS256, &claims).map_err(CliError::failed)
}
