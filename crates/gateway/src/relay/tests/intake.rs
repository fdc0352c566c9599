//! Measures what receiving events costs a replica: from Redis through broker, relay and hub to a reader of each
//! channel, without sockets. Compares it with what Redis itself spends on publishing them.
//!
//! `cargo test --release -p crewcast-gateway --lib intake -- --ignored --nocapture --exact
//! relay::tests::intake::intake`, with the variables `INTAKE_RATE` (events per second; 0: as many as Redis accepts)
//! and `INTAKE_SECONDS`.

use std::{
    error::Error,
    future::poll_fn,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use crewcast_events::{Body, Channel, Keys, Namespaces};
use crewcast_store::{Append, Entry, Once, RedisClient, RedisTransport, Tls, Transport};
use crewcast_test_servers::RedisServer;

use crate::{
    broker::{Broker, PubSub, redis::RedisBroker},
    config::{BrokerConfig, Secret},
    hub::{Hub, Notifier, ReadOutcome, RingLimits},
    relay::Relay,
    stats::UsageCounters,
};

const BYTES: usize = 200;
const BATCH: usize = 64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Parameters of the publishing process: URL, `live` or `logged`, channels, events per second.
const FLOOD: &str = "INTAKE_FLOOD";

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: needs an idle machine and a redis-server"]
async fn intake() -> Result<()> {
    let (rate, seconds) = (number("INTAKE_RATE", 100_000), number("INTAKE_SECONDS", 3));
    for round in 0..3 {
        for kind in ["live", "logged"] {
            for channels in [1, 1000] {
                let usage = measure(kind, channels, rate, Duration::from_secs(seconds.into())).await?;
                println!("{round} {kind:6} {channels:4} channels: {usage}");
            }
        }
    }
    Ok(())
}

/// The publishing process: this test binary again, so that its CPU time is not the replica's.
#[tokio::test]
#[ignore = "the publishing process of `intake`"]
async fn flood() -> Result<()> {
    let Ok(parameters) = std::env::var(FLOOD) else { return Ok(()) };
    let [url, kind, channels, rate] = &parameters.split(' ').collect::<Vec<_>>()[..] else {
        return Err("four parameters are needed".into());
    };
    publish_until_killed(url, *kind == "logged", channels.parse()?, rate.parse()?).await
}

fn channels(count: usize) -> Vec<Channel> {
    (0..count).filter_map(|n| format!("graph:load-{n}").parse().ok()).collect()
}

fn event(n: u64) -> String {
    let head = format!(
        r#"{{"type":"tool_progress","crew_id":"c1","run_id":"r1","agent_id":"researcher","timestamp":"2026-01-02T03:04:05.678Z","n":{n},"text":""#
    );
    let rest = BYTES.saturating_sub(head.len() + 2);
    format!("{head}{:x<rest$}\"}}", "")
}

struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(kind: &str, count: usize, rate: u32, window: Duration) -> Result<String> {
    let server = RedisServer::start();
    let config = BrokerConfig { url: Secret::new(server.url()), ..BrokerConfig::default() };
    let broker = RedisBroker::new(&config, Namespaces::default(), "intake".to_owned())?;
    let (hub, demands) = Hub::new(RingLimits { events: 1024, bytes: 1 << 20, total_bytes: 256 << 20 });
    let relay = Relay::start(hub.clone(), demands, Broker::of(broker.clone()), Namespaces::default(), 1 << 20);
    relay.set_usage(UsageCounters::new(Namespaces::default()));
    broker.start(relay.clone()).await?;
    let read = Arc::new(AtomicU64::new(0));
    let fell = Arc::new(AtomicU64::new(0));
    for channel in channels(count) {
        tokio::spawn(reader(hub.clone(), channel, read.clone(), fell.clone()));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture", "relay::tests::intake::flood"])
        .env(FLOOD, format!("{} {kind} {count} {rate}", server.url()))
        .stdin(Stdio::null())
        .spawn()?;
    let _flood = Flood(child);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let at = |cpu: f64, redis: f64| (cpu, redis, read.load(Ordering::Relaxed), Instant::now());
    let before = at(cpu_of_self(), cpu_of_redis(&server).await?);
    tokio::time::sleep(window).await;
    let after = at(cpu_of_self(), cpu_of_redis(&server).await?);
    let events = (after.2 - before.2) as f64;
    let usage = format!(
        "{:7.0} events/s, {:.2} µs of the replica and {:.2} µs of Redis each, {} fell off, {:.0} % and {:.0} % of a core",
        events / (after.3 - before.3).as_secs_f64(),
        (after.0 - before.0) * 1e6 / events,
        (after.1 - before.1) * 1e6 / events,
        fell.load(Ordering::Relaxed),
        (after.0 - before.0) * 100.0 / (after.3 - before.3).as_secs_f64(),
        (after.1 - before.1) * 100.0 / (after.3 - before.3).as_secs_f64(),
    );
    relay.stop().await;
    broker.close().await;
    Ok(usage)
}

/// A subscriber that reads everything.
async fn reader(hub: Arc<Hub>, channel: Channel, read: Arc<AtomicU64>, fell: Arc<AtomicU64>) {
    let notifier = Arc::new(Notifier::default());
    let subscriber = hub.subscribe(&channel, &notifier, 0);
    let (mut next, mut keys, mut entries) = (0, Vec::new(), Vec::new());
    loop {
        poll_fn(|cx| {
            notifier.register(cx.waker());
            if notifier.has_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        keys.clear();
        notifier.take_ready(&mut keys);
        loop {
            entries.clear();
            match subscriber.read(next, 256, &mut entries) {
                ReadOutcome::Entries { .. } => next += entries.len() as i64,
                ReadOutcome::FellOff { first, .. } => {
                    fell.fetch_add((first - next) as u64, Ordering::Relaxed);
                    next = first;
                }
                ReadOutcome::UpToDate => break,
            }
            read.fetch_add(entries.len() as u64, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }
}

fn cpu_of_self() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

async fn cpu_of_redis(server: &RedisServer) -> Result<f64> {
    let info: String = server.command(&["INFO", "cpu"]).await;
    let read = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(read("used_cpu_sys:") + read("used_cpu_user:"))
}

/// Publishes until the process is killed.
async fn publish_until_killed(url: &str, logged: bool, count: usize, rate: u32) -> Result<()> {
    let channels = channels(count);
    let mut due = (rate > 0).then(|| tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / f64::from(rate))));
    let mut n = 0;
    if logged {
        let redis = RedisClient::new(url, &Tls::default(), 2, "flood")?;
        let transport = RedisTransport::new(redis, Keys::default(), String::new(), Namespaces::default());
        loop {
            if let Some(due) = &mut due {
                due.tick().await;
            }
            let body = |n| Body::parse(event(n)).expect("an event");
            let entries = (0..BATCH as u64).map(|i| Entry::new(body(i))).collect();
            let append = Append { channel: channels[n % count].clone(), entries, once: Once::No };
            transport.append(&append).await?;
            n += 1;
        }
    }
    let mut stream = TcpStream::connect(url.trim_start_matches("redis://"))?;
    let mut answers = stream.try_clone()?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(1..) = answers.read(&mut buffer) {}
    });
    let mut pipeline = Vec::new();
    loop {
        if let Some(due) = &mut due {
            due.tick().await;
        }
        pipeline.clear();
        for _ in 0..BATCH {
            let (channel, event) = (&channels[n % count], event(n as u64));
            write!(pipeline, "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n", channel.as_str().len())?;
            write!(pipeline, "${}\r\n{event}\r\n", event.len())?;
            n += 1;
        }
        stream.write_all(&pipeline)?;
    }
}
