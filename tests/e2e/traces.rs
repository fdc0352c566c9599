//! Traces over OTLP/HTTP that continue the traces of producers.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::support::{
    eventually,
    gateway::{self, Gateway},
    redis::RedisServer,
    socket::connect,
    token::token,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// An OTLP/HTTP receiver that keeps the bodies posted to `/v1/traces`.
struct Receiver {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, kept.clone()));
            }
        });
        Self { endpoint, bodies, task }
    }

    fn count(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }

    /// Whether these bytes were received.
    fn has(&self, bytes: &[u8]) -> bool {
        self.bodies.lock().unwrap().iter().any(|body| body.windows(bytes.len()).any(|window| window == bytes))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the requests of one connection.
async fn receive(mut stream: TcpStream, bodies: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut unread = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut unread).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(unread.drain(..end).collect()).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        while unread.len() < length {
            assert_ne!(stream.read_buf(&mut unread).await.unwrap(), 0);
        }
        bodies.lock().unwrap().push(unread.drain(..length).collect());
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Delivers two events with a traceparent to a socket. The second is not sampled.
async fn deliver_two(redis: &RedisServer, gateway: &Gateway) {
    let token = token(json!({ "crews": ["abc"], "publish": ["graph:abc"] }));
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token)).await;
    let sampled = json!({ "type": "tool_start", "traceparent": format!("00-{TRACE}-{PARENT}-01") });
    let unsampled = json!({ "type": "tool_end", "traceparent": format!("00-{}-{PARENT}-00", "aa".repeat(16)) });
    eventually("the channel is subscribed", || async {
        let (_, count): (String, i64) = redis.run(&[b"PUBSUB", b"NUMSUB", b"graph:abc"]);
        count == 1
    })
    .await;
    for event in [sampled, unsampled] {
        let body = json!({ "channel": "graph:abc", "event": event });
        let request = gateway::client().post(gateway.url("/api/v1/publish")).bearer_auth(&token).json(&body);
        assert_eq!(request.send().await.unwrap().status(), 200);
        assert_eq!(socket.event().await["traceparent"], event["traceparent"]);
    }
    socket.inner.close(None).await.unwrap();
}

#[tokio::test]
async fn the_delivery_of_a_sampled_event_is_a_span_of_its_trace() {
    let (redis, receiver) = (RedisServer::start(), Receiver::start().await);
    let settings = [("CREWCAST_OTEL__ENDPOINT", &*receiver.endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let gateway = gateway::on(&redis, &settings).await;
    deliver_two(&redis, &gateway).await;
    eventually("a span of the producer's trace", || async { receiver.has(&bytes_of(TRACE)) }).await;
    for part in [&b"crewcast.deliver"[..], &bytes_of(PARENT), b"graph:abc", b"service.name"] {
        assert!(receiver.has(part), "{}", String::from_utf8_lossy(part));
    }
    assert!(!receiver.has(&[0xaa; 16]), "a span of an unsampled trace was sent");
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_process_exits() {
    let (redis, receiver) = (RedisServer::start(), Receiver::start().await);
    // Longer than the test, so that only the exit sends the spans.
    let settings = [("CREWCAST_OTEL__ENDPOINT", &*receiver.endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let mut gateway = gateway::on(&redis, &settings).await;
    deliver_two(&redis, &gateway).await;
    assert_eq!(receiver.count(), 0);
    gateway.terminate();
    assert!(gateway.exit().await.success());
    assert!(receiver.has(&bytes_of(TRACE)));
}

#[tokio::test]
async fn without_the_setting_nothing_is_sent() {
    let (redis, receiver) = (RedisServer::start(), Receiver::start().await);
    // The variable of the OpenTelemetry specification alone does not enable traces.
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*receiver.endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let mut gateway = gateway::on(&redis, &settings).await;
    deliver_two(&redis, &gateway).await;
    gateway.terminate();
    assert!(gateway.exit().await.success());
    assert_eq!(receiver.count(), 0, "spans were sent");
}
