//! A replica that drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crewcast_client::{Client, Cut, Delivery, Start, Subscription};
use crewcast_publisher::Publisher;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    balancer::Balancer,
    eventually,
    gateway::{self, Gateway},
    redis::RedisServer,
    socket::{connect, refused},
    token::token,
};

/// The tolerance for delays, because the suite runs on few cores.
const LATE: Duration = Duration::from_millis(1500);

async fn draining(spread: &str, grace: &str) -> Gateway {
    gateway::memory(&[("CREWCAST_DRAIN__SPREAD", spread), ("CREWCAST_DRAIN__GRACE", grace)]).await
}

fn reader() -> String {
    token(json!({ "crews": ["abc"] }))
}

/// A socket whose peer reads everything and never answers.
async fn mute_socket(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(&gateway.public).await.unwrap();
    let request = format!(
        "GET /ws/graph/abc HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
        gateway.public,
        reader()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    eventually("the socket is served", || async { gateway.metric("crewcast_connections", "crew").await == 1.0 }).await;
    stream
}

#[tokio::test]
async fn a_drain_notifies_and_closes_each_socket_at_its_own_moment() {
    let mut gateway = draining("2s", "8s").await;
    let reader = reader();
    let mut sockets = Vec::new();
    for _ in 0..40 {
        sockets.push(connect(&gateway.ws("/ws/graph/abc"), Some(&reader)).await);
    }
    let begin = Instant::now();
    gateway.terminate();
    let leaving = sockets.into_iter().map(|mut socket| {
        tokio::spawn(async move {
            let told = socket.json().await;
            let in_ms = told["in_ms"].as_u64().unwrap_or_else(|| panic!("{told}"));
            assert_eq!(told, json!({ "type": "reconnect", "source": "gateway", "in_ms": in_ms }));
            (socket.closed().await.0, begin.elapsed(), in_ms)
        })
    });
    let leaving: Vec<_> = leaving.collect();

    eventually("the replica is not ready", || async { !gateway.is_ready().await }).await;
    assert!(begin.elapsed() < LATE, "not ready at once, not after {:?}", begin.elapsed());
    assert_eq!(gateway.metric("crewcast_draining", "").await, 1.0);
    assert_eq!(refused(&gateway.ws("/ws/graph/abc"), Some(&reader)).await, 503, "a proxy must try the next replica");
    assert_eq!(gateway.metric("crewcast_handshakes_refused_total", r#"reason="draining""#).await, 1.0);

    let mut moments = Vec::new();
    let mut hints = Vec::new();
    for left in leaving {
        let (code, at, in_ms) = left.await.unwrap();
        assert_eq!(code, 1012);
        assert!(at < Duration::from_secs(2) + LATE, "{at:?} is after the spread");
        moments.push(at);
        hints.push(in_ms);
    }
    moments.sort();
    // Forty random moments within two seconds fail these checks less than once in a billion runs.
    assert!(moments[39] - moments[0] > Duration::from_millis(700), "all at once: {moments:?}");
    assert!(moments[10] > Duration::from_millis(50) && moments[10] < moments[30], "a stampede: {moments:?}");
    hints.sort_unstable();
    hints.dedup();
    assert!(hints.len() > 20, "clients would come back together: {hints:?}");

    assert!(gateway.exit().await.success(), "exit code 0");
    assert!(
        begin.elapsed() < Duration::from_secs(2) + LATE * 2,
        "the process outlives its last socket: {:?}",
        begin.elapsed()
    );
    assert!(TcpStream::connect(&gateway.public).await.is_err());
}

#[tokio::test]
async fn a_drain_notifies_and_ends_event_streams() {
    let mut gateway = draining("200ms", "8s").await;
    let request = gateway::client().get(gateway.url("/sse?channel=graph:abc")).bearer_auth(reader());
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    gateway.terminate();
    let mut text = String::new();
    while let Some(chunk) = answer.chunk().await.expect("the body ends properly and is not cut") {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let retry = text.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap_or_else(|| panic!("{text}"));
    assert!(retry.parse::<u64>().unwrap() < 1000, "the pause before EventSource reconnects: {text}");
    assert!(text.contains(r#"{"type":"reconnect","source":"gateway","in_ms":"#), "{text}");
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn a_peer_that_never_answers_the_close_does_not_delay_the_exit() {
    let mut gateway = draining("100ms", "1s").await;
    let _mute = mute_socket(&gateway).await;
    let begin = Instant::now();
    gateway.terminate();
    assert!(gateway.exit().await.success(), "the end of the grace period is not a failure");
    let took = begin.elapsed();
    // Without a grace period, the gateway waits five seconds for the close frame.
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(1) + LATE, "{took:?}");
}

#[tokio::test]
async fn a_request_that_hangs_does_not_delay_the_exit() {
    let mut gateway = draining("100ms", "1s").await;
    let _mute = mute_socket(&gateway).await;
    let mut hangs = TcpStream::connect(&gateway.public).await.unwrap();
    let head = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        token(json!({ "publish": ["graph:*"] }))
    );
    hangs.write_all(head.as_bytes()).await.unwrap();
    let begin = Instant::now();
    gateway.terminate();
    assert!(gateway.exit().await.success());
    assert!(
        begin.elapsed() < Duration::from_secs(1) + LATE,
        "the process outlives the grace period: {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut gateway = draining("15s", "25s").await;
    let _mute = mute_socket(&gateway).await;
    gateway.terminate();
    eventually("the replica drains", || async { !gateway.is_ready().await }).await;
    assert!(gateway.has_exited().is_none(), "a socket is still open");
    let begin = Instant::now();
    gateway.terminate();
    assert_eq!(gateway.exit().await.code(), Some(1));
    assert!(begin.elapsed() < LATE, "at once, not after {:?}", begin.elapsed());
}

const EVENTS: usize = 600;

/// What one client received from a channel.
#[derive(Default)]
struct Seen {
    numbers: Vec<u64>,
    sent_away: usize,
    others: Vec<String>,
}

/// Reads until every event is there, and stops.
async fn read_all(mut subscription: Subscription, progress: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    while seen.numbers.len() < EVENTS {
        let next = tokio::time::timeout(crate::support::PATIENCE, subscription.next());
        match next.await.unwrap_or_else(|_| panic!("stuck after {} events", seen.numbers.len())) {
            Some(Ok(Delivery::Event { event, .. })) => {
                let event: serde_json::Value = serde_json::from_str(event.text()).unwrap();
                seen.numbers.push(event["n"].as_u64().unwrap());
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Some(Ok(Delivery::Connected { .. })) => {}
            Some(Ok(Delivery::Disconnected { cut: Cut::Closed { code: 1012, .. }, .. })) => seen.sent_away += 1,
            other => seen.others.push(format!("{other:?}")),
        }
    }
    seen
}

#[tokio::test]
async fn clients_move_to_another_replica_without_losing_an_event() {
    let redis = RedisServer::start();
    let settings = [("CREWCAST_DRAIN__SPREAD", "1s"), ("CREWCAST_DRAIN__GRACE", "8s")];
    let (mut leaves, stays) = (gateway::on(&redis, &settings).await, gateway::on(&redis, &settings).await);
    let balancer = Balancer::start(&leaves.public).await;
    let claims = token(json!({ "crews": ["abc"], "runs": ["r1"] }));
    let client = Client::builder(format!("http://{}", balancer.address)).token(claims).build().unwrap();
    let progress = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..5 {
        for request in [client.run("r1"), client.graph("abc").since(Start::Beginning)] {
            readers.push(tokio::spawn(read_all(request.connect(), progress.clone())));
        }
    }
    eventually("all clients are connected", || async { leaves.metric("crewcast_connections", "crew").await == 10.0 })
        .await;

    let publisher = Publisher::connect(&redis.url()).await.unwrap();
    for n in 0..EVENTS {
        for channel in ["run:r1", "graph:abc"] {
            publisher.publish(channel, &json!({ "type": "step", "n": n })).unwrap();
        }
        if n == EVENTS / 4 {
            eventually("events flow", || async { progress.load(Ordering::Relaxed) > 100 }).await;
            balancer.switch_to(&stays.public);
            leaves.terminate();
        }
        // The pace of the producer: events flow while sockets move.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let expected: Vec<u64> = (0..EVENTS as u64).collect();
    for reader in readers {
        let seen = reader.await.unwrap();
        assert_eq!(seen.numbers, expected, "each once and in order");
        assert_eq!((seen.sent_away, seen.others), (1, Vec::new()));
    }
    assert!(leaves.exit().await.success());
    assert_eq!(stays.metric("crewcast_resets_total", "").await, 0.0);
}
