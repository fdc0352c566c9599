//! Accepts connections and serves HTTP/1 on them until told to stop.

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

/// Most bytes of a request's head: enough for a large token. Longer heads are refused with 431.
const MAX_HEAD: usize = 32 * 1024;

/// After `stop`, a connection that has not sent a request yet has this long to send its first one.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Shortest and longest pause after failed accepts; it doubles. A process without free descriptors recovers only by
/// waiting.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Failed accepts are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How connections are accepted.
#[derive(Clone, Debug)]
pub(crate) struct ListenOptions {
    /// Longest time from the accept, or from the end of a request, to the end of the next request's head. Also how
    /// long a trusted proxy may take to send its PROXY header.
    pub handshake: Duration,
    /// Peers whose PROXY headers are read. They do not have to send one.
    pub trusted_proxies: Vec<IpNet>,
}

/// The source of a request; stored in the extensions of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClientAddress {
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// The client behind the peer, from the PROXY header of a trusted proxy.
    pub via: Option<SocketAddr>,
}

impl ClientAddress {
    /// The nearest known client: the address in the PROXY header, or else the peer.
    pub(crate) fn nearest(&self) -> SocketAddr {
        self.via.unwrap_or(self.peer)
    }
}

/// Serves `router` until `stop`. Then it accepts no more connections, and returns when the requests in flight are
/// answered.
///
/// Connections that a handler upgraded are not waited for. Dropping the future also stops the listener, without
/// waiting.
pub(crate) async fn serve(listener: TcpListener, router: Router, options: ListenOptions, stop: CancellationToken) {
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
        // The peer gave up while it was queued, which is no reason to delay others.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            continue;
        }
        let pause = failures.record(&error);
        stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
    }
}

/// The state of recent failures to accept.
#[derive(Default)]
struct AcceptFailures {
    pause: Duration,
    unreported: u64,
    reported: Option<Instant>,
}

impl AcceptFailures {
    /// Counts a failure, logs at most once a minute, and returns how long to pause.
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
    // Fails only on a dead stream, and then the first read fails too.
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
    let has_requested = Arc::new(AtomicBool::new(false));
    let requested = has_requested.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        requested.store(true, Ordering::Relaxed);
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
        return count_refused(served, has_requested.load(Ordering::Relaxed));
    }
    connection.as_mut().graceful_shutdown();
    if timeout(LAST_CALL, connection.as_mut()).await.is_err() && has_requested.load(Ordering::Relaxed) {
        // The client decides how it ends.
        let _ = connection.await;
    }
}

/// Counts connections that never sent a valid request. Closing an idle connection after its last request is not a
/// refusal.
fn count_refused(served: hyper::Result<()>, has_requested: bool) {
    let reason = match served {
        Err(error) if error.is_parse() => "malformed",
        Err(error) if error.is_timeout() && !has_requested => "timeout",
        _ => return,
    };
    counter(Metric::HandshakesRefused, &[("reason", reason)]).increment(1);
}

fn trusts(proxies: &[IpNet], peer: IpAddr) -> bool {
    proxies.iter().any(|proxy| proxy.contains(&peer))
}

#[cfg(test)]
mod tests;
