//! Replicas behind a real nginx with deploy/nginx/crewcast.conf. Only addresses, ports and the log path are changed.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use crewcast_client::{Client, Delivery};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{MaybeTlsStream, tungstenite::client::IntoClientRequest};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    redis::{RedisServer, free_port},
    root,
    socket::{Socket, connect},
    token::token,
};

/// nginx in front of two replicas.
struct Nginx {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

const DEBIAN: &str = "/usr/sbin/nginx";

impl Nginx {
    async fn before(replicas: [&Gateway; 2]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let changes = [
            ("crewcast-1:8000", replicas[0].public.clone()),
            ("crewcast-2:8000", replicas[1].public.clone()),
            ("listen 80;", format!("listen 127.0.0.1:{port};")),
            ("/var/log/nginx/access.log", at("access.log")),
        ];
        let path = root().join("deploy/nginx/crewcast.conf");
        let mut server = fs::read_to_string(path).unwrap();
        for (from, to) in &changes {
            assert_eq!(server.matches(from).count(), 1, "{from}");
            server = server.replace(from, to);
        }
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {};\n", at(name)))
            .collect();
        // One process, so that killing it stops nginx.
        let whole = format!(
            "daemon off; master_process off; pid {}; error_log {};\nevents {{}}\nhttp {{\n{folders}{server}}}\n",
            at("pid"),
            at("error.log")
        );
        fs::write(directory.path().join("nginx.conf"), whole).unwrap();
        // Debian installs nginx outside the PATH of users.
        let program = if Path::new(DEBIAN).exists() { DEBIAN } else { "nginx" };
        let process = Command::new(program)
            .args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is needed: run `make test`, which installs it");
        let mut nginx = Self { process, port, directory };
        eventually("nginx serves", || async {
            let up = gateway::client().get(nginx.url("/health")).send().await;
            up.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        assert!(nginx.process.try_wait().unwrap().is_none(), "{}", nginx.read("error.log"));
        nginx
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn ws(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The settings of replicas behind nginx.
const PROXIED: (&str, &str) = ("CREWCAST_TRUSTED_PROXIES", "127.0.0.1/32");

/// Publishes with an idempotency key, and retries when the replica goes away during the request.
async fn publish(nginx: &Nginx, token: &str, channel: &str, event: Value) -> String {
    let body = json!({ "channel": channel, "event": event, "idempotency_key": event.to_string() });
    let began = Instant::now();
    loop {
        let request = gateway::client().post(nginx.url("/api/v1/publish")).bearer_auth(token).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        if status == 200 {
            return serde_json::from_str::<Value>(&text).unwrap()["ids"][0].as_str().unwrap().to_owned();
        }
        assert!(matches!(status, 502..=504) && began.elapsed() < PATIENCE, "{status} {text}");
    }
}

fn everything() -> String {
    token(json!({ "crews": ["abc"], "runs": ["r1", "r2"], "publish": ["graph:abc", "run:r1", "run:r2"] }))
}

#[tokio::test]
async fn sockets_are_spread_and_their_close_codes_pass_through() {
    let redis = RedisServer::start();
    let (a, b) = tokio::join!(gateway::on(&redis, &[PROXIED]), gateway::on(&redis, &[PROXIED]));
    let nginx = Nginx::before([&a, &b]).await;
    let token = everything();

    let mut sockets = Vec::new();
    for _ in 0..8 {
        sockets.push(connect(&nginx.ws("/ws/graph/abc"), Some(&token)).await);
    }
    assert_eq!(sockets[0].response.headers()["sec-websocket-protocol"], "token");
    for replica in [&a, &b] {
        eventually("each replica has sockets", || async { replica.metric("crewcast_connections", "").await >= 2.0 })
            .await;
    }
    let message = r#"{ "type":"tool_start", "n":1.50,"z":0,"a":"\u00e9é🙂"}"#;
    eventually("both replicas are subscribed", || async { redis.publish("graph:abc", message.as_bytes()) == 2 }).await;
    for socket in &mut sockets {
        // Sockets that were subscribed early have received the first attempts, too.
        assert_eq!(socket.text().await, message);
    }

    assert_eq!(connect(&nginx.ws("/ws/graph/abc"), None).await.closed().await.0, 4401);
    assert_eq!(connect(&nginx.ws("/ws/graph/abc"), Some("garbage")).await.closed().await.0, 4401);
    assert_eq!(connect(&nginx.ws("/ws/graph/other"), Some(&token)).await.closed().await.0, 4403);
    assert_eq!(connect(&nginx.ws("/ws/nowhere"), Some(&token)).await.closed().await.0, 4404);
    publish(&nginx, &token, "run:r1", json!({ "type": "boot" })).await;
    publish(&nginx, &token, "run:r1", json!({ "type": "done" })).await;
    let mut run = connect(&nginx.ws("/ws/runs/r1"), Some(&token)).await;
    assert_eq!(run.closed().await, (1000, "run completed".to_owned()));

    // A ticket is in the URL and must not be in the log.
    let answer = gateway::client().post(nginx.url("/api/v1/tickets")).bearer_auth(&token).send().await.unwrap();
    let ticket = answer.json::<Value>().await.unwrap()["ticket"].as_str().unwrap().to_owned();
    let mut run = connect(&nginx.ws(&format!("/ws/runs/r1?ticket={ticket}")), None).await;
    assert_eq!(run.closed().await.0, 1000);
    drop(run);
    eventually("the requests are logged", || async { nginx.read("access.log").matches("/ws/runs/r1").count() == 2 })
        .await;
    for log in ["access.log", "error.log"] {
        let text = nginx.read(log);
        assert!(!text.contains(&ticket) && !text.contains(&token), "{log}: {text}");
    }
}

#[tokio::test]
async fn server_sent_events_pass_nginx_unbuffered() {
    let redis = RedisServer::start();
    let (a, b) = tokio::join!(gateway::on(&redis, &[PROXIED]), gateway::on(&redis, &[PROXIED]));
    let nginx = Nginx::before([&a, &b]).await;
    let token = everything();
    let mut stream =
        gateway::client().get(nginx.url("/sse?channel=graph:abc")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    eventually("the stream is subscribed", || async { redis.publish("graph:abc", b"no event") == 1 }).await;
    // The stream stays open, so a message in a buffer of nginx would never arrive.
    for n in 1..=3 {
        let id = publish(&nginx, &token, "graph:abc", json!({ "type": "tool_start", "n": n })).await;
        let mut text = String::new();
        while !(text.contains(&format!("\"n\":{n},")) && text.ends_with("\n\n")) {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("unbuffered").unwrap().unwrap();
            text += std::str::from_utf8(&chunk).unwrap();
        }
        assert!(text.contains(&format!("id: {id}\n")), "{text}");
    }
}

#[tokio::test]
async fn the_gateway_notices_a_reader_that_stalls_behind_nginx() {
    let redis = RedisServer::start();
    let replica = gateway::on(&redis, &[PROXIED, ("CREWCAST_LIMITS__STALL", "1s")]).await;
    let nginx = Nginx::before([&replica, &replica]).await;
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).await.unwrap();
    let head = format!(
        "GET /sse?channel=graph:abc HTTP/1.1\r\nHost: crewcast\r\nAuthorization: Bearer {}\r\n\r\n",
        everything()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the stream is subscribed", || async { redis.publish("graph:abc", b"no event") == 1 }).await;
    // The client reads nothing. The sockets on the way fill up, and nginx must not buffer the rest.
    let event = format!(r#"{{"type":"tool_progress","message":"{}"}}"#, "x".repeat(100_000));
    eventually("the stream is closed", || async {
        redis.publish("graph:abc", event.as_bytes());
        replica.metric("crewcast_connections_closed_total", "code=\"4408\"").await >= 1.0
    })
    .await;
}

/// Connects to nginx from this source address.
async fn from(address: Ipv4Addr, nginx: &Nginx, forwarded_for: Option<&str>) -> Socket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    let stream: TcpStream = socket.connect(SocketAddr::from(([127, 0, 0, 1], nginx.port))).await.unwrap();
    let mut request = nginx.ws("/ws/graph/abc").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", everything()).parse().unwrap());
    if let Some(forwarded_for) = forwarded_for {
        request.headers_mut().insert("x-forwarded-for", forwarded_for.parse().unwrap());
    }
    let (inner, response) = tokio_tungstenite::client_async(request, MaybeTlsStream::Plain(stream)).await.unwrap();
    Socket { inner, response }
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

// Other systems have only 127.0.0.1 on the loopback interface.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_per_address_counts_the_client_not_nginx() {
    let limit = ("CREWCAST_LIMITS__PER_ADDRESS", "2");
    let replica = gateway::memory(&[PROXIED, limit]).await;
    let nginx = Nginx::before([&replica, &replica]).await;
    let mut open = vec![from(FIRST, &nginx, None).await, from(FIRST, &nginx, None).await];
    assert_eq!(from(FIRST, &nginx, None).await.closed().await.0, 4429);
    // A forwarded header of the client does not count, because nginx appends the address that it sees.
    assert_eq!(from(FIRST, &nginx, Some("203.0.113.7")).await.closed().await.0, 4429);
    for _ in 0..2 {
        open.push(from(SECOND, &nginx, None).await);
    }
    assert_eq!(from(SECOND, &nginx, None).await.closed().await.0, 4429);
    assert_eq!(replica.metric("crewcast_connections", "").await, 4.0);
    for socket in &mut open {
        assert!(socket.is_quiet().await);
    }

    // Without trusted proxies, all connections come from nginx.
    let unaware = gateway::memory(&[limit]).await;
    let nginx = Nginx::before([&unaware, &unaware]).await;
    let _open = (from(FIRST, &nginx, None).await, from(FIRST, &nginx, None).await);
    assert_eq!(from(SECOND, &nginx, None).await.closed().await.0, 4429);
}

const CLIENTS: usize = 6;
const EVENTS: u64 = 60;

/// Reads a run to its end. Returns the event numbers in order of arrival, and the number of cuts.
async fn tail(client: Client) -> (Vec<u64>, usize) {
    let (mut numbers, mut cuts) = (Vec::new(), 0);
    let mut run = client.run("r2").connect();
    while let Some(delivery) = run.next().await {
        match delivery.unwrap() {
            Delivery::Event { event, .. } => {
                numbers.push(serde_json::from_str::<Value>(event.text()).unwrap()["n"].as_u64().unwrap());
            }
            Delivery::Disconnected { .. } => cuts += 1,
            Delivery::Reset { reason, .. } => panic!("reset: {reason}"),
            _ => {}
        }
    }
    (numbers, cuts)
}

/// Six clients tail a run through nginx while one of two replicas goes away.
async fn a_replica_goes(leave: impl Fn(&mut Gateway)) {
    let redis = RedisServer::start();
    let settings = [PROXIED, ("CREWCAST_DRAIN__SPREAD", "500ms"), ("CREWCAST_DRAIN__GRACE", "5s")];
    let (mut a, b) = tokio::join!(gateway::on(&redis, &settings), gateway::on(&redis, &settings));
    let nginx = Nginx::before([&a, &b]).await;
    let token = everything();
    let client = Client::builder(nginx.url("")).token(&token).build().unwrap();
    let tails: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(tail(client.clone()))).collect();
    let connections = async |replica: &Gateway| replica.metric("crewcast_connections", "").await;
    eventually("all clients are connected", || async {
        connections(&a).await + connections(&b).await == CLIENTS as f64
    })
    .await;
    let on_a = connections(&a).await;
    assert!(on_a >= 1.0, "no client is on the replica that goes away");

    for n in 0..EVENTS {
        if n == EVENTS / 3 {
            leave(&mut a);
        }
        let kind = if n + 1 == EVENTS { "done" } else { "progress" };
        publish(&nginx, &token, "run:r2", json!({ "type": kind, "n": n })).await;
        if n == EVENTS / 2 {
            eventually("all clients are on the other replica", || async { connections(&b).await == CLIENTS as f64 })
                .await;
        }
    }
    let mut cut = 0;
    for tail in tails {
        let (numbers, cuts) = tokio::time::timeout(PATIENCE, tail).await.expect("the run ends").unwrap();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "every event once and in order");
        cut += usize::from(cuts > 0);
    }
    assert!(cut as f64 >= on_a, "clients of the replica that went away were not cut: {cut} of {on_a}");
}

#[tokio::test]
async fn clients_of_a_killed_replica_continue_on_the_other() {
    a_replica_goes(Gateway::kill).await;
}

#[tokio::test]
async fn clients_of_a_draining_replica_continue_on_the_other() {
    a_replica_goes(|replica| replica.terminate()).await;
}
