//! Measures one replica on this machine: what an idle socket costs, and how long an event takes.
//!
//! `make measure` runs it against the release binary. Redis, gateway and clients share the machine: the
//! figures are this machine's, and comparisons hold only within one run. A load generator for comparisons with
//! other systems is another tool's work.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SECRET: &str = "a secret for measuring, 32 bytes long or more";
const IDLE_SOCKETS: usize = 10_000;
const SUBSCRIBERS: usize = 10;
const EVENTS_PER_SECOND: u32 = 1000;
const SECONDS: u32 = 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    let binary = std::env::args().nth(1).context("usage: measure <crewcast binary>")?;
    let redis = Server::redis()?;
    let gateway = Server::gateway(&binary, &redis)?;
    gateway.ready().await?;
    idle_memory(&gateway).await?;
    latency(&gateway, &redis).await
}

/// Resident memory per idle `/ws/graph` socket, each authenticated and subscribed to one of 100 channels.
async fn idle_memory(gateway: &Server) -> Result<()> {
    // One first, so that what is allocated once is not counted as a socket's.
    let mut sockets = vec![open(gateway, "warm").await?];
    let before = resident_bytes(gateway.process.id())?;
    let began = Instant::now();
    for n in 0..IDLE_SOCKETS {
        sockets.push(open(gateway, &format!("crew{}", n % 100)).await?);
    }
    let took = began.elapsed();
    // The last handshakes' tasks end a moment after their answers.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = resident_bytes(gateway.process.id())?;
    let each = (after.saturating_sub(before)) as f64 / IDLE_SOCKETS as f64;
    println!("idle sockets           {IDLE_SOCKETS}");
    println!("resident, 1 socket     {:.1} MiB", before as f64 / 1048576.0);
    println!("resident, all          {:.1} MiB", after as f64 / 1048576.0);
    println!("resident per socket    {each:.0} bytes");
    println!("handshakes             {:.0} per second, one after another", IDLE_SOCKETS as f64 / took.as_secs_f64());
    Ok(())
}

/// From `PUBLISH` to the receipt of the frame's last byte. The events go out on a schedule, whether or not
/// earlier ones have arrived, so that a slow answer delays no later question; how late the schedule itself
/// ran (timers here have a millisecond's grain) is told beside.
async fn latency(gateway: &Server, redis: &Server) -> Result<()> {
    let began = Instant::now();
    let listening = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        readers.push(tokio::spawn(receive(open(gateway, "timed").await?, began, listening.clone())));
    }
    let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    while listening.load(Ordering::Relaxed) < SUBSCRIBERS {
        publish(&mut connection, r#"{"type":"hello"}"#).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / EVENTS_PER_SECOND);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let padding = "x".repeat(120);
    let mut late = Vec::new();
    for n in 0..EVENTS_PER_SECOND * SECONDS {
        late.push(tick.tick().await.elapsed().as_nanos() as u64);
        let at = began.elapsed().as_nanos();
        let event = format!(r#"{{"type":"tool_progress","n":{n},"at":{at},"message":"{padding}"}}"#);
        let mut connection = connection.clone();
        tokio::spawn(async move { publish(&mut connection, &event).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    publish(&mut connection, r#"{"type":"end"}"#).await?;
    let mut all = Vec::new();
    for reader in readers {
        let latencies = tokio::time::timeout(Duration::from_secs(20), reader).await???;
        let got = latencies.len();
        ensure!(got == (EVENTS_PER_SECOND * SECONDS) as usize, "a subscriber got {got} events");
        all.extend(latencies);
    }
    println!(
        "events                 {EVENTS_PER_SECOND} per second to {SUBSCRIBERS} subscribers for {SECONDS} s, none lost"
    );
    println!("latency p50            {:.2} ms", milliseconds(&mut all, 0.5));
    println!("latency p99            {:.2} ms", milliseconds(&mut all, 0.99));
    println!("latency max            {:.2} ms", milliseconds(&mut all, 1.0));
    println!("schedule late by, p99  {:.2} ms", milliseconds(&mut late, 0.99));
    Ok(())
}

async fn publish(connection: &mut redis::aio::MultiplexedConnection, event: &str) -> Result<i64> {
    Ok(redis::cmd("PUBLISH").arg("graph:timed").arg(event).query_async(connection).await?)
}

fn milliseconds(nanoseconds: &mut [u64], share: f64) -> f64 {
    nanoseconds.sort_unstable();
    nanoseconds[((nanoseconds.len() - 1) as f64 * share) as usize] as f64 / 1e6
}

/// Nanoseconds from publish to receipt of each event, up to the event `end`.
async fn receive(mut socket: TcpStream, began: Instant, listening: Arc<AtomicUsize>) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    let mut buffer = Vec::new();
    let mut is_listening = false;
    loop {
        ensure!(socket.read_buf(&mut buffer).await? > 0, "the gateway closed the socket");
        let now = began.elapsed().as_nanos() as u64;
        let mut rest = &buffer[..];
        while let Some((payload, behind)) = frame(rest) {
            rest = behind;
            let Ok(event) = serde_json::from_slice::<serde_json::Value>(payload) else { continue };
            if event["type"] == "end" {
                return Ok(latencies);
            }
            if !std::mem::replace(&mut is_listening, true) {
                listening.fetch_add(1, Ordering::Relaxed);
            }
            latencies.extend(event["at"].as_u64().map(|at| now.saturating_sub(at)));
        }
        let left = rest.len();
        buffer.drain(..buffer.len() - left);
    }
}

/// The first whole frame of `bytes` and what follows it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= head + length).then(|| bytes[head..].split_at(length))
}

/// A WebSocket with nothing around it, so that the client's side costs little.
async fn open(gateway: &Server, crew: &str) -> Result<TcpStream> {
    let expires = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 3600;
    let claims = json!({ "sub": crew, "org": "acme", "crews": [crew], "exp": expires });
    let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?;
    let mut socket = TcpStream::connect(("127.0.0.1", gateway.port)).await?;
    let request = format!(
        "GET /ws/graph/{crew} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: token, {token}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await?);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    Ok(socket)
}

/// `VmRSS` of a process (proc(5)).
fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("measuring needs Linux's /proc")?;
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let kilobytes = fields.get("VmRSS").and_then(|value| value.split_whitespace().next()).context("no VmRSS")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

struct Server {
    process: Child,
    port: u16,
    admin: u16,
}

impl Server {
    fn redis() -> Result<Self> {
        let port = free_port()?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server is needed")?;
        Ok(Self { process, port, admin: 0 })
    }

    fn gateway(binary: &str, redis: &Self) -> Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let process = Command::new(binary)
            .arg("serve")
            .env_clear()
            .env("CREWCAST_LISTEN", format!("127.0.0.1:{port}"))
            .env("CREWCAST_ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
            .env("CREWCAST_BROKER__URL", redis.url())
            .env("CREWCAST_AUTH__HS256_SECRET", SECRET)
            .env("CREWCAST_READY__WINDOW", "1s")
            .env("CREWCAST_LOG__LEVEL", "warn")
            .spawn()
            .with_context(|| format!("cannot run {binary}"))?;
        Ok(Self { process, port, admin })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn ready(&self) -> Result<()> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://127.0.0.1:{}/readyz", self.admin);
        let began = Instant::now();
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
            if began.elapsed() > Duration::from_secs(20) {
                bail!("the gateway does not become ready");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
