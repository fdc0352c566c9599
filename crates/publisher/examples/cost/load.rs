//! Loads on one Redis, and the cost of each.

use std::{
    error::Error,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crewcast_events::{Body, Channel, Keys, Namespaces};
use crewcast_publisher::{Append, Entry, Once, Publisher, RedisClient, RedisTransport, Tls, Transport};
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How events are published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// `PUBLISH`, pipelined.
    Plain,
    /// One event per script, pipelined.
    Single,
    /// As many events of a channel per script as the others put into a pipeline.
    Batched,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Plain, Kind::Single, Kind::Batched];
}

/// What is published, and how many connections listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Events per second.
    pub rate: u32,
    /// Duration of the load.
    pub window: Duration,
    pub channels: usize,
    /// Events that are sent together.
    pub batch: usize,
    /// Bytes of one event.
    pub bytes: usize,
    /// Connections that listen to all channels, as a replica does.
    pub listeners: usize,
}

/// The cost of an event.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code)]
pub(crate) struct Cost {
    /// Measured events per second.
    pub rate: f64,
    /// CPU of Redis, user and system.
    pub redis_micros: f64,
    /// Bytes that each listener received per event.
    pub heard_bytes: f64,
    /// Events in the measured time.
    pub events: u64,
}

/// The result of the fastest publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Top {
    /// Confirmed events per second.
    pub rate: f64,
    /// CPU of Redis per event.
    pub redis_micros: f64,
    /// CPU of this process per event, including emitting and listening.
    pub publisher_micros: f64,
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// An event of `bytes` bytes.
pub(crate) fn event(n: u64, bytes: usize) -> String {
    let head =
        format!(r#"{{"type":"tool_progress","crew_id":"c1","run_id":"r1","agent_id":"researcher","n":{n},"text":""#);
    let rest = bytes.saturating_sub(head.len() + 2);
    format!("{head}{:x<rest$}\"}}", "")
}

fn channels(count: usize) -> Vec<Channel> {
    (0..count).filter_map(|n| format!("graph:load-{n}").parse().ok()).collect()
}

/// Connections that listen and count bytes, each on its own thread, until dropped.
struct Listeners {
    streams: Vec<TcpStream>,
    bytes: Arc<AtomicU64>,
}

impl Listeners {
    fn start(address: &str, count: usize, channels: &[Channel]) -> Result<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut streams = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(address)?;
            let mut subscribe = format!("*{}\r\n$9\r\nSUBSCRIBE\r\n", channels.len() + 1);
            for channel in channels {
                subscribe += &format!("${}\r\n{channel}\r\n", channel.as_str().len());
            }
            stream.write_all(subscribe.as_bytes())?;
            streams.push(stream.try_clone()?);
            let heard = bytes.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    heard.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(Self { streams, bytes })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for stream in &self.streams {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

async fn eyes(url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

/// Seconds of CPU that Redis has used.
async fn cpu_of_redis(eyes: &mut MultiplexedConnection) -> Result<f64> {
    let info: String = redis::cmd("INFO").arg("cpu").query_async(eyes).await?;
    let read = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(read("used_cpu_sys:") + read("used_cpu_user:"))
}

/// Seconds of CPU that this process has used, where that can be read.
fn cpu_of_self() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

fn address(url: &str) -> &str {
    url.trim_start_matches("redis://")
}

/// Publishes at the load's rate and answers the cost for Redis.
pub(crate) async fn cost(url: &str, load: &Load, kind: Kind) -> Result<Cost> {
    let channels = channels(load.channels);
    let mut eyes = eyes(url).await?;
    redis::cmd("FLUSHALL").exec_async(&mut eyes).await?;
    let listeners = Listeners::start(address(url), load.listeners, &channels)?;
    let redis = RedisClient::new(url, &Tls::default(), 2, "cost")?;
    let transport = RedisTransport::new(redis, Keys::default(), String::new(), Namespaces::default());
    let mut sender =
        Sender { load: *load, kind, channels, sent: vec![0; load.channels], transport, plain: eyes.clone() };
    sender.fill().await?;
    let (cpu, heard, before) = (cpu_of_redis(&mut eyes).await?, listeners.bytes(), sender.total());
    let tick = Duration::from_secs_f64(load.batch as f64 / f64::from(load.rate));
    let mut due = tokio::time::interval(tick);
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < load.window {
        due.tick().await;
        sender.send(n).await?;
        n += 1;
    }
    let events = sender.total() - before;
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    let redis_micros = (cpu_of_redis(&mut eyes).await? - cpu) * 1e6 / events as f64;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let heard = (listeners.bytes() - heard) as f64 / events as f64 / load.listeners.max(1) as f64;
    Ok(Cost { rate, redis_micros, heard_bytes: heard, events })
}

struct Sender {
    load: Load,
    kind: Kind,
    channels: Vec<Channel>,
    /// Events per channel.
    sent: Vec<u64>,
    transport: RedisTransport,
    plain: MultiplexedConnection,
}

impl Sender {
    fn total(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Fills the logs, so that each append trims one. The first plain events warm up the connections.
    async fn fill(&mut self) -> Result<()> {
        let kind = if self.kind == Kind::Plain { Kind::Plain } else { Kind::Batched };
        let kind = std::mem::replace(&mut self.kind, kind);
        let namespaces = Namespaces::default();
        let length = namespaces.of(&self.channels[0]).map_or(0, |namespace| namespace.log.length as usize);
        for n in 0..self.load.channels * length.div_ceil(self.load.batch) {
            self.send(n).await?;
        }
        self.kind = kind;
        Ok(())
    }

    /// Sends one batch, and waits until it is answered.
    async fn send(&mut self, n: usize) -> Result<()> {
        let count = self.channels.len();
        let batch = self.load.batch;
        let spread = (0..batch).map(move |i| (n * batch + i) % count);
        match self.kind {
            Kind::Plain => {
                let mut pipeline = redis::pipe();
                for at in spread {
                    let message = event(self.sent[at], self.load.bytes);
                    pipeline.cmd("PUBLISH").arg(self.channels[at].as_str()).arg(message).ignore();
                    self.sent[at] += 1;
                }
                pipeline.exec_async(&mut self.plain).await?;
            }
            Kind::Single => {
                // At most one batch of a channel is being sent at a time, as with a publisher.
                let mut appends: Vec<Append> = Vec::with_capacity(self.load.batch);
                for at in spread {
                    appends.push(self.append(at, 1));
                    if appends.len() == count {
                        self.all(std::mem::take(&mut appends)).await?;
                    }
                }
                self.all(appends).await?;
            }
            Kind::Batched => {
                let append = self.append(n % count, self.load.batch);
                self.all(vec![append]).await?;
            }
        }
        Ok(())
    }

    async fn all(&self, appends: Vec<Append>) -> Result<()> {
        try_join_all(appends.iter().map(|append| self.transport.append(append))).await?;
        Ok(())
    }

    fn append(&mut self, at: usize, count: usize) -> Append {
        let first = self.sent[at] + 1;
        self.sent[at] += count as u64;
        let body = |n| Body::parse(event(n, self.load.bytes)).expect("an event");
        let entries = (first..first + count as u64).map(|n| Entry::new(body(n))).collect();
        let once = Once::Sequence { producer: Arc::from("abcdefghijklmnopqrst"), first };
        Append { channel: self.channels[at].clone(), entries, once }
    }
}

/// Emits as fast as a publisher accepts events, and answers how many were confirmed. One connection listens.
pub(crate) async fn top(url: &str, load: &Load) -> Result<Top> {
    let channels = channels(load.channels);
    let mut eyes = eyes(url).await?;
    redis::cmd("FLUSHALL").exec_async(&mut eyes).await?;
    let _listeners = Listeners::start(address(url), load.listeners, &channels)?;
    let publisher = Publisher::builder().queue_events(20_000).connect(url).await?;
    let texts: Vec<bytes::Bytes> = (0..1000).map(|n| event(n, load.bytes).into()).collect();
    let (cpu, own) = (cpu_of_redis(&mut eyes).await?, cpu_of_self());
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < load.window {
        // Full enough to form batches, not so full that events are dropped.
        if publisher.queued() > 10_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        for _ in 0..1000 {
            publisher.publish_raw(channels[n % channels.len()].as_str(), texts[n % texts.len()].clone())?;
            n += 1;
        }
        tokio::task::yield_now().await;
    }
    let published = publisher.stats().published as f64;
    let rate = published / begun.elapsed().as_secs_f64();
    let redis_micros = (cpu_of_redis(&mut eyes).await? - cpu) * 1e6 / published;
    let publisher_micros = (cpu_of_self() - own) * 1e6 / published;
    let unsent = publisher.close(Duration::from_secs(10)).await;
    let stats = publisher.stats();
    if unsent.events > 0 || stats.dropped > 0 {
        return Err(format!("{} unsent, {stats:?}", unsent.events).into());
    }
    Ok(Top { rate, redis_micros, publisher_micros })
}
