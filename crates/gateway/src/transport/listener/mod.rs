//! Accepting connections and speaking HTTP/1 on them, until told to stop.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::proxy;
use crate::telemetry::metrics::{Metric, counter};

/// Bytes of a request's head: room for a generous token, and refused with 431 beyond.
const MAX_HEAD: usize = 32 * 1024;

/// After `stop`, how long a connection that has not sent a request yet may still send its first one.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Pauses after failed accepts, doubling: a process without free descriptors recovers only by waiting.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Failed accepts are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How connections are taken.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// From the accept, and from the end of each request, to the end of the next request's head; also how long a
    /// trusted proxy may take for its PROXY header.
    pub handshake: Duration,
    /// Peers whose PROXY protocol headers are read. They need not send one.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where a request comes from; in the extensions of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// For whom the peer speaks, by the PROXY header of a trusted proxy.
    pub via: Option<SocketAddr>,
}

impl ClientAddress {
    /// The nearest client that is known: whom the PROXY header names, or else the peer.
    pub fn nearest(&self) -> SocketAddr {
        self.via.unwrap_or(self.peer)
    }
}

/// Serves `router` until `stop`; then accepts no more and returns when the requests in flight have been answered.
///
/// Connections that a handler has upgraded are no longer its business. Dropping the future stops too, without waiting.
pub async fn serve(listener: TcpListener, router: Router, options: ListenOptions, stop: CancellationToken) {
    let options = Arc::new(options);
    let connections = TaskTracker::new();
    let ending = stop.child_token();
    let _end_with_owner = ending.clone().drop_guard();
    let mut failures = AcceptFailures::default();
    while let Some((stream, peer)) = next_connection(|| listener.accept(), &mut failures, &stop).await {
        connections.spawn(serve_connection(stream, peer, router.clone(), options.clone(), ending.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection, or `None` after `stop`.
async fn next_connection<F>(
    accept: impl Fn() -> F,
    failures: &mut AcceptFailures,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)>
where
    F: Future<Output = io::Result<(TcpStream, SocketAddr)>>,
{
    loop {
        let error = match stop.run_until_cancelled(accept()).await? {
            Ok(accepted) => {
                failures.pause = Duration::ZERO;
                return Some(accepted);
            }
            Err(error) => error,
        };
        // The peer gave up while it waited: no reason to let others wait.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            continue;
        }
        let pause = failures.record(&error);
        stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
    }
}

/// What went wrong with accepting lately.
#[derive(Default)]
struct AcceptFailures {
    pause: Duration,
    unreported: u64,
    reported: Option<Instant>,
}

impl AcceptFailures {
    /// Counts a failure, logs at most once a minute, and says how long to pause.
    fn record(&mut self, error: &io::Error) -> Duration {
        self.unreported += 1;
        if self.reported.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            tracing::warn!(count = self.unreported, %error, "accepting connections fails");
            self.unreported = 0;
            self.reported = Some(Instant::now());
        }
        self.pause = (2 * self.pause).clamp(PAUSES.0, PAUSES.1);
        self.pause
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    options: Arc<ListenOptions>,
    stop: CancellationToken,
) {
    // Fails only on a dead stream, which the first read tells.
    let _ = stream.set_nodelay(true);
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut via = None;
    if trusts(&options.trusted_proxies, peer.ip()) {
        let header = timeout(options.handshake, proxy::read_header(&mut stream));
        match stop.run_until_cancelled(header).await {
            Some(Ok(Ok(named))) => via = named,
            Some(Ok(Err(error))) => return tracing::debug!(%peer, %error, "connection dropped"),
            Some(Err(_)) | None => return,
        }
    }
    serve_http(stream, ClientAddress { peer, via }, router, options.handshake, stop).await;
}

/// HTTP/1 until the connection ends or is upgraded.
async fn serve_http(
    stream: TcpStream,
    address: ClientAddress,
    router: Router,
    handshake: Duration,
    stop: CancellationToken,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let asking = asked.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        asking.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(address);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(handshake)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = stop.run_until_cancelled(connection.as_mut()).await;
    if let Some(served) = served {
        return count_refused(served, asked.load(Ordering::Relaxed));
    }
    connection.as_mut().graceful_shutdown();
    if timeout(LAST_CALL, connection.as_mut()).await.is_err() && asked.load(Ordering::Relaxed) {
        // How it ends is the client's business.
        let _ = connection.await;
    }
}

/// Counts what never became a request. A connection that has been quiet since its last one is no refusal.
fn count_refused(served: hyper::Result<()>, has_asked: bool) {
    let reason = match served {
        Err(error) if error.is_parse() => "malformed",
        Err(error) if error.is_timeout() && !has_asked => "timeout",
        _ => return,
    };
    counter(Metric::HandshakesRefused, &[("reason", reason)]).increment(1);
}

fn trusts(proxies: &[IpNet], peer: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(&peer))
}

#[cfg(test)]
mod tests;
