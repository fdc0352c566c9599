use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    load::{self, Body, Load, Outcome, Pace, Target, Watched},
    measure::process::Group,
    parts::{Job, Parts},
    protocol,
    servers::SECRET,
};

/// The load, and where it goes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Addresses of the server's replicas, with commas between
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:8000", value_parser = address)]
    url: Vec<SocketAddr>,
    /// Where Redis is, or where else events are published: nchan's, NATS' TCP or Centrifugo's address
    #[arg(long, default_value = "redis://127.0.0.1:6379", value_parser = address)]
    redis: SocketAddr,
    /// How it is spoken to: crewcast, raw, fastapi, socketio, nchan, nats, centrifugo, anycable
    #[arg(long, default_value = "crewcast")]
    protocol: String,
    /// Key that signs tokens (HS256), and Centrifugo's API key
    #[arg(long, env = "CREWCAST_AUTH__HS256_SECRET", default_value = SECRET, hide_env_values = true)]
    secret: String,
    /// Processes of the server, with commas between, to measure their CPU time and memory
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Redis' process
    #[arg(long)]
    redis_pid: Option<u32>,
    /// Channels
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Sockets over all channels
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Processes that share the sockets; one of them publishes
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Closed loop: events of each channel on their way
    #[arg(long, conflicts_with_all = ["total", "rate"])]
    in_flight: Option<usize>,
    /// Closed loop: events over all channels on their way
    #[arg(long, conflicts_with = "rate")]
    total: Option<usize>,
    /// Open loop: events per second over all channels
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of an event
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Events as crews publish them, of about 400 bytes, instead of padded ones
    #[arg(long)]
    typical: bool,
    /// Event types to ask for; those of --size are all tool_end
    #[arg(long)]
    types: Option<String>,
    /// Offer permessage-deflate
    #[arg(long)]
    deflate: bool,
    /// Publish into the channels' logs
    #[arg(long)]
    logged: bool,
    /// Share of sockets that read slowly, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    slow: f64,
    /// Share of sockets that are closed and opened again each second
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// Seconds before measuring
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of measuring
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Handshakes under way at a time
    #[arg(long, default_value_t = 100)]
    opening: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Host and port of a URL, or alone.
fn address(text: &str) -> Result<SocketAddr> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let mut found = authority.to_socket_addrs().with_context(|| format!("{text} names no host and port"))?;
    found.find(SocketAddr::is_ipv4).with_context(|| format!("{text} has no IPv4 address"))
}

impl Args {
    fn load(&self) -> Load {
        let pace = match (self.in_flight, self.total, self.rate) {
            (_, Some(total), _) => Pace::Total(total),
            (_, _, Some(rate)) => Pace::Open(rate),
            (in_flight, ..) => Pace::PerChannel(in_flight.unwrap_or(64)),
        };
        Load {
            channels: self.channels,
            sockets_per_channel: self.sockets / self.channels.max(1) / self.processes,
            pace,
            body: if self.typical { Body::Typical } else { Body::Padded(self.size) },
            types: self.types.clone(),
            deflate: self.deflate,
            logged: self.logged,
            slow: self.slow,
            churn: self.churn,
            warm_up: Duration::from_secs_f64(self.warm_up),
            window: Duration::from_secs_f64(self.seconds),
            opening: self.opening,
            source: 1,
        }
    }
}

pub(super) fn execute(args: &Args) -> Result<bool> {
    let target = Target { sockets: args.url.clone(), publish: Some(args.redis) };
    let watched = Watched { server: Group::of(args.pid.iter().copied()), redis: Group::of(args.redis_pid) };
    ensure!(
        args.processes == 1 || args.processes > 1 && args.rate.is_some() && args.slow + args.churn == 0.0,
        "several processes share only an open loop (--rate), without --slow and --churn"
    );
    let load = args.load();
    let protocol = protocol::named(&args.protocol, args.channels, &args.secret)?;
    let job = Job {
        protocol: args.protocol.clone(),
        secret: args.secret.clone(),
        sockets: args.url.clone(),
        load: load.clone(),
    };
    let mut parts = Parts::start(&job, args.processes - 1)?;
    parts.wait_until_open()?;
    let outcome = load::run_with(&load, target, protocol, &watched, &mut parts)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "load": load, "outcome": outcome }))?);
    } else {
        print(&outcome);
    }
    Ok(outcome.is_clean())
}

fn print(outcome: &Outcome) {
    let row = |name: &str, value: String| println!("{name:<28}{value}");
    let percent = |seconds: f64| format!("{:.0} % of a core", 100.0 * seconds / outcome.seconds);
    row("deliveries", format!("{} in {:.2} s", outcome.deliveries, outcome.seconds));
    row("deliveries per second", format!("{:.0}", outcome.deliveries_per_second));
    row("events published", format!("{}", outcome.published));
    let latency = &outcome.latency;
    row(
        "latency, ms",
        format!(
            "p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max
        ),
    );
    row("schedule late, ms", format!("p99 {:.3}  max {:.3}", outcome.schedule_late.p99, outcome.schedule_late.max));
    row("server", percent(outcome.server_cpu.total()));
    row("  of it in the kernel", percent(outcome.server_cpu.system));
    row("deliveries per CPU second", format!("{:.0}", outcome.deliveries_per_server_cpu_second));
    row("resident memory", format!("{:.1} MiB", outcome.rss_loaded as f64 / 1048576.0));
    row("  per socket", format!("{:.0} bytes", outcome.rss_per_socket));
    row("redis", percent(outcome.redis_cpu.total()));
    row("generator", percent(outcome.generator_cpu.total()));
    if outcome.generator_share() > 0.9 {
        println!("the generator was the bottleneck: these are its limits, not the server's");
    }
    row("bytes received", format!("{}", outcome.wire_bytes));
    row("lost, doubled, disordered", format!("{}, {}, {}", outcome.lost, outcome.doubled, outcome.disordered));
    row("never delivered", format!("{}", outcome.undelivered));
    let reason = outcome.close_reason.as_deref().unwrap_or_default();
    row("closed by the server", format!("{} {reason}", outcome.closed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_urls() {
        for text in ["ws://127.0.0.1:8000/ws", "127.0.0.1:8000", "redis://localhost:8000"] {
            assert_eq!(address(text).unwrap(), "127.0.0.1:8000".parse().unwrap(), "{text}");
        }
        assert!(address("ws://127.0.0.1").is_err());
    }
}
