use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    load::{self, Body, Load, Outcome, Pace, Target, Watched},
    measure::process::Group,
    protocol,
    servers::SECRET,
    worker_process::{Job, Workers},
};

/// The load and its target.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Addresses of the server's replicas, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "ws://127.0.0.1:8000", value_parser = address)]
    url: Vec<SocketAddr>,
    /// Address that events are published to: Redis, or the TCP address of nchan, NATS or Centrifugo
    #[arg(long, default_value = "redis://127.0.0.1:6379", value_parser = address)]
    redis: SocketAddr,
    /// Protocol of the server: crewcast, raw, fastapi, socketio, nchan, nats, centrifugo, anycable
    #[arg(long, default_value = "crewcast")]
    protocol: String,
    /// Key that signs tokens (HS256); also the API key of Centrifugo
    #[arg(long, env = "CREWCAST_AUTH__HS256_SECRET", default_value = SECRET, hide_env_values = true)]
    secret: String,
    /// Process ids of the server, separated by commas, to measure CPU time and memory
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Process id of Redis
    #[arg(long)]
    redis_pid: Option<u32>,
    /// Number of channels
    #[arg(long, default_value_t = 1)]
    channels: usize,
    /// Sockets of all channels together
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Processes that share the sockets; the first publishes
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Closed loop: events in flight per channel
    #[arg(long, conflicts_with_all = ["total", "rate"])]
    in_flight: Option<usize>,
    /// Closed loop: events in flight over all channels
    #[arg(long, conflicts_with = "rate")]
    total: Option<usize>,
    /// Open loop: events per second over all channels
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes per event
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Publish events of about 400 bytes like those of a crew, instead of padded ones
    #[arg(long)]
    typical: bool,
    /// Event types to subscribe to; events made by --size are all tool_end
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
    /// Share of sockets that are closed and reopened each second
    #[arg(long, default_value_t = 0.0)]
    churn: f64,
    /// Seconds before the measuring window
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the measuring window
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Handshakes in progress at a time
    #[arg(long, default_value_t = 100)]
    opening: usize,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The address of a URL, or of `host:port`.
fn address(text: &str) -> Result<SocketAddr> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let mut found = authority.to_socket_addrs().with_context(|| format!("{text} names no host and port"))?;
    found.find(SocketAddr::is_ipv4).with_context(|| format!("{text} has no IPv4 address"))
}

impl LoadArgs {
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

pub(super) fn execute(args: &LoadArgs) -> Result<bool> {
    let target = Target { sockets: args.url.clone(), publish: Some(args.redis) };
    let watched = Watched { server: Group::of(args.pid.iter().copied()), redis: Group::of(args.redis_pid) };
    ensure!(
        args.processes == 1 || args.processes > 1 && args.rate.is_some() && args.slow + args.churn == 0.0,
        "--processes above 1 needs an open loop: pass --rate, and leave out --slow and --churn"
    );
    let load = args.load();
    let protocol = protocol::named(&args.protocol, args.channels, &args.secret)?;
    let job = Job {
        protocol: args.protocol.clone(),
        secret: args.secret.clone(),
        sockets: args.url.clone(),
        load: load.clone(),
    };
    let mut workers = Workers::start(&job, args.processes - 1)?;
    workers.wait_until_open()?;
    let outcome = load::run_with(&load, target, protocol, &watched, &mut workers)?;
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
        println!("the generator was the bottleneck: these are the limits of the generator, not of the server");
    }
    row("bytes received", format!("{}", outcome.wire_bytes));
    row("lost, duplicated, disordered", format!("{}, {}, {}", outcome.lost, outcome.doubled, outcome.disordered));
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
