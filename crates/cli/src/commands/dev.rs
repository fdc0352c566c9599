//! `crewcast dev`: gateway, memory broker and simulated crews in one process.

use std::{net::SocketAddr, process::ExitCode};

use crewcast_gateway::{
    Server, ShutdownSignal,
    config::{Algorithm, BrokerKind, Config, Loaded, Secret, Source},
    mint, shutdown_signal, telemetry,
};
use crewcast_publisher::Publisher;
use serde_json::{Map, Value, json};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::{
    dev::{Addresses, SimulationOptions, banner, run as simulate},
    error::CliError,
    output,
    settings::ConfigArgs,
};

/// The org of the simulated crews and of the printed token.
const ORG: &str = "dev";
/// The pages of development servers on this machine, on whatever port.
const LOCAL_PAGES: [&str; 2] = ["http://localhost:*", "http://127.0.0.1:*"];
/// How long the crews may take to end their runs when they are stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

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
    let (config, secret) = development(config.load()?);
    let redis = (config.broker.kind == BrokerKind::Redis).then(|| host_and_port(&config)).flatten();
    let guard = telemetry::init(&config).map_err(CliError::failed)?;
    let recorder = telemetry::install().map_err(CliError::failed)?;
    let signals = shutdown_signal().map_err(CliError::failed)?;
    let publisher_settings = Publisher::builder()
        .org(ORG)
        .key_prefix(&config.broker.key_prefix)
        .channel_prefix(&config.broker.channel_prefix)
        .namespaces(config.namespaces.clone());
    let server = Server::start(config, Some(recorder)).await.map_err(CliError::failed)?;
    let publisher = publisher_settings.with_transport(server.transport());

    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
    let addresses = Addresses {
        gateway: format!("http://{}", browsable(server.public)),
        admin: format!("http://{}", browsable(server.admin)),
        program: std::env::args().next().unwrap_or_else(|| "crewcast".to_owned()),
        redis,
        seed,
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
        "sub": "developer", "org": ORG, "crews": "*", "runs": "*", "publish": ["graph:*", "mission:*", "run:*"],
        "iat": now, "exp": now + 7 * 24 * 3600, "admin": true,
    });
    let claims: Map<String, Value> = claims.as_object().cloned().unwrap_or_default();
    mint(secret, Algorithm::HS256, &claims).map_err(CliError::failed)
}

/// The address under which a browser on this machine reaches the gateway.
fn browsable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn host_and_port(config: &Config) -> Option<(String, u16)> {
    let url = config.broker.url.expose().split_once("://")?.1;
    let authority = url.split(['/', '?']).next()?.rsplit('@').next()?;
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((authority.to_owned(), 6379)),
    }
}
