//! Deadlines of a connection: heartbeats, missing pongs, expiry, a broker that is away, stalls. The clock is Tokio's,
//! paused. The stream is a Unix socket pair: without a network, nothing is in transit while the clock jumps.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
};

use bytes::Bytes;
use crewcast_events::{
    Body, Channel, Event, EventId, Kind,
    timestamp::{self, unix_now},
};
use crewcast_store::{Append, Entry, Once, Ownership, Transport};
use crewcast_websocket::Socket;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    auth::{Grants, Ids, mint},
    broker::{Link, PubSub, Sink},
    config::{Algorithm, Config, Secret},
    dialect::{
        Action, Positions,
        crew::{CrewDialect, CrewEndpoint},
        stream::StreamDialect,
        tracking::TrackingDialect,
    },
    hub::Entry as HubEntry,
    outbox::EventStream,
    registry::{Control, Registry, Revocation, RevocationTarget},
    replay::Opening,
    server::{Parts, assemble},
    testing::FaultyBroker,
};

const SECRET: &str = "a secret of the tests, 32 bytes or more";
/// Timers have a resolution of one millisecond, and several may lie between an event and its effect.
const TOLERANCE: Duration = Duration::from_millis(20);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

/// One replica without listeners.
struct Bench {
    parts: Parts,
    broker: Arc<FaultyBroker>,
}

impl Bench {
    async fn new() -> Self {
        let mut config = Config::default();
        config.auth.hs256_secret = Some(Secret::new(SECRET));
        let broker = Arc::new(FaultyBroker::new(config.namespaces.clone()));
        let parts = assemble(config, broker.sides(), Registry::of(broker.inner.clone()), None).unwrap();
        broker.inner.start(parts.relay.clone()).await.unwrap();
        tokio::spawn(parts.app.shared.timer.clone().run());
        Self { parts, broker }
    }

    /// Opens a socket, and returns its client.
    fn open(&self, endpoint: CrewEndpoint, expires_at: Option<u64>) -> Client {
        self.open_dialect(Box::new(CrewDialect::new(endpoint, None, Vec::new())), expires_at)
    }

    fn open_dialect(&self, dialect: Box<dyn Dialect>, expires_at: Option<u64>) -> Client {
        self.open_as(Principal::User(identity(expires_at)), dialect)
    }

    fn open_as(&self, principal: Principal, dialect: Box<dyn Dialect>) -> Client {
        let app = &self.parts.app;
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(ours))).unwrap();
        let socket = Socket::new(stream, app.config.limits.message.0, Bytes::new());
        let server = tokio::spawn(run(app.shared.clone(), socket, principal, dialect, self.admission()));
        Client { stream: UnixStream::from_std(theirs).unwrap(), opened: Instant::now(), answers_pings: true, server }
    }

    fn admission(&self) -> Admission {
        let app = &self.parts.app;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (leave, permit) = (app.drain.enter().unwrap(), app.limits.connect(address).unwrap());
        let client = app.limits.client_key(address, "/ws/graph");
        Admission { leave, _permit: permit, client, endpoint: "/ws/graph".to_owned().into(), user: None }
    }

    fn graph(&self) -> Client {
        self.open(CrewEndpoint::Graph(channel("graph:abc")), None)
    }

    fn tracking(&self) -> Client {
        self.open_dialect(Box::new(TrackingDialect::new(Some("client_1".to_owned()), seconds(60))), None)
    }

    fn mission(&self, offline_after: Option<Duration>) -> Client {
        self.open(CrewEndpoint::Mission { offline_after }, None)
    }

    async fn publish(&self, name: &str, event: &Value) -> String {
        let entry = Entry::new(Body::parse(event.to_string()).unwrap());
        let append = Append { channel: channel(name), entries: vec![entry], once: Once::No };
        self.broker.append(&append).await.unwrap()[0].unwrap().to_string()
    }

    async fn publish_live(&self, name: &str, event: &Value) {
        self.broker.publish_live(&channel(name), event.to_string().into()).await.unwrap();
    }
}

/// A user of the org acme that may read the crew `abc`, the run `r1` and the sessions `s0` to `s19`.
fn identity(expires_at: Option<u64>) -> Identity {
    let grants = Grants {
        crews: Ids::Listed(["abc".to_owned()].into()),
        runs: Ids::Listed(["r1".to_owned()].into()),
        sessions: Ids::Listed((0..20).map(|n| format!("s{n}")).collect()),
        ..Grants::default()
    };
    Identity {
        sub: "u1".into(),
        org: Some("acme".into()),
        grants: Arc::new(grants),
        expires_at,
        issued_at: None,
        jti: None,
        admin: false,
        anonymous: false,
    }
}

/// A token for the user `sub` of that org.
fn token(sub: &str, exp: u64) -> String {
    let claims = json!({ "sub": sub, "org": "acme", "crews": ["abc"], "exp": exp });
    mint(&Secret::new(SECRET), Algorithm::HS256, claims.as_object().unwrap()).unwrap()
}

#[derive(Debug, PartialEq)]
enum Heard {
    Text(Value),
    Ping,
    Close(u16, String),
    /// The stream has ended.
    End,
}

/// The client's end, frame by frame (RFC 6455, section 5.2).
struct Client {
    stream: UnixStream,
    opened: Instant,
    /// Whether it answers pings.
    answers_pings: bool,
    server: JoinHandle<()>,
}

impl Client {
    /// The next frame or the end, and when it arrived.
    async fn next(&mut self) -> (Duration, Heard) {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).await.is_err() {
            return (self.opened.elapsed(), Heard::End);
        }
        let length = match head[1] {
            126 => usize::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap() as usize,
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.unwrap();
        let heard = match head[0] {
            0x81 => Heard::Text(serde_json::from_slice(&payload).unwrap()),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Heard::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            0x89 => Heard::Ping,
            other => panic!("a frame that begins with {other:#x}"),
        };
        if heard == Heard::Ping && self.answers_pings {
            self.send(0x8a, b"").await;
        }
        (self.opened.elapsed(), heard)
    }

    /// The next frame that is not a protocol ping, or the end.
    async fn next_but_pings(&mut self) -> (Duration, Heard) {
        loop {
            let (at, heard) = self.next().await;
            if heard != Heard::Ping {
                return (at, heard);
            }
        }
    }

    async fn text(&mut self) -> (Duration, Value) {
        match self.next_but_pings().await {
            (at, Heard::Text(text)) => (at, text),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The next frame that is neither a ping message nor a protocol ping, or the end.
    async fn end(&mut self) -> (Duration, Heard) {
        loop {
            match self.next_but_pings().await {
                (_, Heard::Text(text)) if text["type"] == "ping" => {}
                other => return other,
            }
        }
    }

    async fn send_text(&mut self, text: &Value) {
        self.send(0x81, text.to_string().as_bytes()).await;
    }

    /// One frame, masked with zeroes.
    async fn send(&mut self, head: u8, payload: &[u8]) {
        let mut frame = vec![head];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
    }
}

#[track_caller]
fn assert_at(at: Duration, expected: Duration) {
    assert!(at >= expected && at < expected + TOLERANCE, "at {at:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_gets_ping_frames_every_30_s_and_ping_messages_every_45_s() {
    let bench = Bench::new().await;
    let mut client = bench.graph();
    let mut heard = Vec::new();
    for _ in 0..10 {
        let (at, what) = client.next().await;
        assert!(at.subsec_millis() < 20, "{at:?}");
        heard.push(match what {
            Heard::Ping => format!("{} ping frame", at.as_secs()),
            Heard::Text(text) => format!("{} {}", at.as_secs(), text["type"].as_str().unwrap()),
            other => panic!("{other:?}"),
        });
    }
    let expected = [
        "30 ping frame",
        "45 ping",
        "60 ping frame",
        "90 ping frame",
        "90 ping",
        "120 ping frame",
        "135 ping",
        "150 ping frame",
        "180 ping frame",
        "180 ping",
    ];
    assert_eq!(heard, expected);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_hangs_is_closed_although_its_browser_answers_pings() {
    let bench = Bench::new().await;
    let mut client = bench.tracking();
    assert_eq!(client.text().await.1["type"], "active_sessions");
    for due in [30, 60] {
        let (at, ping) = client.text().await;
        assert_at(at, seconds(due));
        assert_eq!(ping["type"], "ping");
    }
    let (at, end) = client.next_but_pings().await;
    assert_at(at, seconds(90));
    assert_eq!(end, Heard::Close(4408, "no pong: reconnect".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn requested_logs_are_read_one_by_one_as_the_client_takes_them() {
    let bench = Bench::new().await;
    for n in 0..20 {
        let line = json!({ "type": "session_log", "n": n, "message": "x".repeat(400_000) });
        bench.publish(&format!("session:s{n}"), &line).await;
    }
    let mut client = bench.tracking();
    assert_eq!(client.text().await.1["type"], "active_sessions");
    for n in 0..20 {
        client.send_text(&json!({ "type": "get_session_logs", "session_id": format!("s{n}") })).await;
    }
    // The paused clock advances only when every task is idle.
    tokio::time::sleep(seconds(5)).await;
    let read = bench.broker.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(read <= 3, "{read} logs were read for a client that reads nothing");
    for n in 0..20 {
        assert_eq!(client.text().await.1["logs"][0]["n"], n);
    }
}

#[tokio::test(start_paused = true)]
async fn logs_of_a_session_that_changed_owner_during_the_read_are_not_sent() {
    let bench = Bench::new().await;
    bench.publish("session:s1", &json!({ "type": "session_log", "message": "of acme" })).await;
    let mut client = bench.tracking();
    assert_eq!(client.text().await.1["type"], "active_sessions");
    let ask = json!({ "type": "get_session_logs", "session_id": "s1" });
    client.send_text(&ask).await;
    assert_eq!(client.text().await.1["logs"][0]["message"], "of acme");
    let held = bench.broker.answers.write().await;
    client.send_text(&ask).await;
    tokio::time::sleep(seconds(1)).await;
    let ownership = Ownership { kind: Kind::Session, id: "s1".to_owned(), org: "zeta".to_owned(), crew: None };
    bench.parts.app.auth.on_control(&Control::Directory { ownership, from: None, removed: false });
    drop(held);
    assert_eq!(client.text().await.1["code"], "unknown_session");
}

#[tokio::test(start_paused = true)]
async fn a_ping_message_carries_the_time_and_the_position() {
    let bench = Bench::new().await;
    let mut client = bench.graph();
    let (_, ping) = client.text().await;
    assert_eq!(ping["source"], "gateway");
    assert_eq!(ping["position"], json!({ "graph:abc": null }), "nothing is logged yet");
    let sent_at = timestamp::parse(ping["timestamp"].as_str().unwrap()).unwrap();
    assert!(sent_at.abs_diff(seconds(unix_now())) < seconds(5), "{ping}");

    let id = bench.publish("graph:abc", &json!({ "type": "tool_start" })).await;
    assert_eq!(client.text().await.1, json!({ "id": id, "type": "tool_start" }));
    let (at, ping) = client.text().await;
    assert_at(at, seconds(90));
    assert_eq!(ping["position"], json!({ "graph:abc": id }));

    let mut mission = bench.mission(None);
    assert_eq!(mission.text().await.1["payload"]["status"], "offline");
    let (at, ping) = mission.text().await;
    assert_at(at, seconds(45));
    assert_eq!((&ping["type"], &ping["position"]), (&json!("ping"), &json!({ "mission:abc": null })));
}

#[tokio::test(start_paused = true)]
async fn a_run_has_no_ping_messages() {
    let bench = Bench::new().await;
    let mut client =
        bench.open(CrewEndpoint::Run { channel: channel("run:r1"), terminal: vec!["done".to_owned()] }, None);
    for n in 1..=6 {
        let (at, heard) = client.next().await;
        assert_eq!(heard, Heard::Ping);
        assert_at(at, seconds(30 * n));
    }
    bench.publish("run:r1", &json!({ "type": "done" })).await;
    assert_eq!(client.text().await.1["type"], "done");
    assert_eq!(client.next().await.1, Heard::Close(1000, "run completed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_for_75_s_is_closed() {
    let bench = Bench::new().await;
    let mut client = bench.graph();
    client.answers_pings = false;
    let (at, heard) = client.end().await;
    assert_eq!(heard, Heard::Close(4408, "no pong: reconnect and resume".to_owned()));
    assert_at(at, seconds(75));
    // The gateway waits five seconds for an answer to the close.
    let (at, heard) = client.next().await;
    assert_eq!(heard, Heard::End);
    assert_at(at, seconds(80));
}

#[tokio::test(start_paused = true)]
async fn every_message_of_the_peer_is_a_sign_of_life() {
    let bench = Bench::new().await;
    let mut client = bench.graph();
    client.answers_pings = false;
    tokio::time::sleep(seconds(70)).await;
    client.send_text(&json!({ "type": "pong" })).await;
    let (at, heard) = client.end().await;
    assert!(matches!(heard, Heard::Close(4408, _)), "{heard:?}");
    assert_at(at, seconds(145));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_closes_its_socket() {
    let bench = Bench::new().await;
    let mut client = bench.open(CrewEndpoint::Graph(channel("graph:abc")), Some(unix_now() + 100));
    let (at, heard) = client.end().await;
    assert_eq!(heard, Heard::Close(4401, "token expired".to_owned()));
    // Up to a second of the expiry has passed when the test starts.
    assert!(at > seconds(98) && at < seconds(100) + TOLERANCE, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_while_its_socket_opens_closes_it() {
    let bench = Bench::new().await;
    // After the check of the handshake, and before the socket is in the registry.
    let target = RevocationTarget::Sub("u1".to_owned());
    let (issued_until, remember_until) = (unix_now(), unix_now() + 100);
    bench.parts.app.auth.on_control(&Control::Revoked(Revocation { target, issued_until, remember_until }));
    let (at, heard) = bench.graph().end().await;
    assert_eq!(heard, Heard::Close(4401, "token revoked".to_owned()));
    assert_at(at, seconds(0));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_moves_the_expiry() {
    let bench = Bench::new().await;
    let mut client = bench.open(CrewEndpoint::Graph(channel("graph:abc")), Some(unix_now() + 100));
    client.send_text(&json!({ "action": "auth", "token": token("u1", unix_now() + 300) })).await;
    let (at, heard) = client.end().await;
    assert_eq!(heard, Heard::Close(4401, "token expired".to_owned()));
    assert!(at > seconds(298) && at < seconds(300) + TOLERANCE, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_user_closes_the_socket_at_once() {
    let bench = Bench::new().await;
    let mut client = bench.open(CrewEndpoint::Graph(channel("graph:abc")), Some(unix_now() + 100));
    client.send_text(&json!({ "action": "auth", "token": token("u2", unix_now() + 300) })).await;
    let (at, heard) = client.end().await;
    assert!(matches!(heard, Heard::Close(4401, _)), "{heard:?}");
    assert_at(at, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_first_message_with_a_refused_token_is_answered_ever_more_slowly() {
    let bench = Bench::new().await;
    let introduce = async |token: &str| {
        let mut client = bench.open_as(Principal::Pending, Box::new(StreamDialect::new(8, false)));
        client.send_text(&json!({ "action": "auth", "token": token })).await;
        client.next_but_pings().await
    };
    let expired = token("u1", unix_now() - 1);
    for wait in [0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
        let (at, heard) = introduce(&expired).await;
        assert!(matches!(heard, Heard::Close(1008, _)), "{heard:?}");
        assert_at(at, Duration::from_millis(wait));
        let (at, heard) = introduce(&token("u1", unix_now() + 600)).await;
        assert!(matches!(&heard, Heard::Text(text) if text["type"] == "authenticated"), "{heard:?}");
        assert_at(at, Duration::ZERO);
    }
    assert_at(introduce("another").await.0, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_crew_with_a_silent_producer_is_reported_offline_once() {
    let bench = Bench::new().await;
    let offline = json!({ "type": "signal", "payload": { "status": "offline", "crewId": "abc" } });
    let busy = json!({ "type": "signal", "payload": { "status": "busy", "crewId": "abc" } });
    let mut client = bench.mission(Some(seconds(60)));
    assert_eq!(client.text().await.1, offline, "it has never signalled");
    for round in 1..=2 {
        let signalled = client.opened.elapsed();
        bench.publish_live("mission:abc", &busy).await;
        assert_eq!(client.text().await.1, busy);
        let mut reports = Vec::new();
        // Only pings follow the offline message.
        while client.opened.elapsed() < signalled + seconds(200) {
            let (at, text) = client.text().await;
            if text["type"] != "ping" {
                reports.push((at, text));
            }
        }
        assert_eq!(reports.len(), 1, "round {round}: {reports:?}");
        assert_eq!(reports[0].1, offline);
        assert_at(reports[0].0, signalled + seconds(60));
    }
}

#[tokio::test(start_paused = true)]
async fn without_offline_after_a_silent_producer_is_not_reported() {
    let bench = Bench::new().await;
    let mut client = bench.mission(None);
    let busy = json!({ "type": "signal", "payload": { "status": "busy", "crewId": "abc" } });
    client.text().await;
    bench.publish_live("mission:abc", &busy).await;
    assert_eq!(client.text().await.1, busy);
    while client.opened.elapsed() < seconds(600) {
        assert_eq!(client.text().await.1["type"], "ping");
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_wait_for_a_broker_that_is_away_as_long_as_patience_lasts() {
    let bench = Bench::new().await;
    let mut client = bench.graph();
    let broker = |state: &str| json!({ "type": "broker", "source": "gateway", "state": state });
    let change = async |link| {
        bench.parts.relay.link(link);
        bench.parts.app.shared.connections.raise(Flag::Link, |_| true).await;
    };
    tokio::time::sleep(seconds(1)).await;
    change(Link::Down).await;
    assert_eq!(client.text().await.1, broker("down"));
    tokio::time::sleep(seconds(30)).await;
    change(Link::Up).await;
    assert_eq!(client.text().await.1, broker("up"));
    tokio::time::sleep(seconds(60)).await;
    let since = client.opened.elapsed();
    change(Link::Down).await;
    let ends = loop {
        match client.end().await {
            (_, Heard::Text(text)) => assert_eq!(text, broker("down")),
            other => break other,
        }
    };
    assert_eq!(ends.1, Heard::Close(1013, "the broker is away: reconnect with backoff".to_owned()));
    assert_at(ends.0, since + seconds(60));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_makes_no_progress_is_closed_after_the_stall_limit() {
    let bench = Bench::new().await;
    let client = bench.graph();
    tokio::time::sleep(seconds(1)).await;
    let text = "x".repeat(100_000);
    for n in 0..20 {
        bench.publish_live("graph:abc", &json!({ "type": "big", "n": n, "text": text })).await;
    }
    let Client { stream, opened, server, .. } = client;
    server.await.unwrap();
    // `limits.stall`, then five seconds for the close frame.
    assert_at(opened.elapsed(), seconds(1 + 60 + 5));
    drop(stream);
}

/// A dialect that sets a timer when it opens, and sends a text when the timer fires.
struct OneTimer;

impl Dialect for OneTimer {
    fn label(&self) -> &'static str {
        "sse"
    }

    fn heartbeat(&self) -> Option<Duration> {
        None
    }

    fn on_open(&mut self, _identity: Option<&Identity>, out: &mut Actions) {
        out.push(Action::WakeAt(Instant::now() + seconds(10)));
    }

    fn on_timer(&mut self, _now: Instant, out: &mut Actions) {
        out.push(Action::Send(Bytes::from_static(b"timer")));
    }

    fn on_channel(&mut self, _channel: &Channel, _opening: &Opening, _out: &mut Actions) {}

    fn on_entry(&mut self, _channel: &Channel, _entry: &Arc<HubEntry>, _out: &mut Actions) {}

    fn on_caught_up(&mut self, _channel: &Channel, _position: Option<EventId>, _out: &mut Actions) {}

    fn on_fetched(&mut self, _channel: &Channel, _event: Option<Event>, _out: &mut Actions) {}

    fn on_channel_gone(&mut self, _channel: &Channel, _out: &mut Actions) {}

    fn on_client(&mut self, _text: &str, _out: &mut Actions) {}

    fn on_heartbeat(&mut self, _positions: Positions<'_, '_>, _out: &mut Actions) {}
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_an_event_stream_fires_once() {
    let bench = Bench::new().await;
    let (stream, mut chunks) = EventStream::new();
    let app = &bench.parts.app;
    let principal = Principal::User(identity(None));
    let serving = tokio::spawn(run(app.shared.clone(), stream, principal, Box::new(OneTimer), bench.admission()));
    let opened = Instant::now();
    assert_eq!(chunks.recv().await.as_deref(), Some(&b"timer"[..]));
    assert!(opened.elapsed() >= seconds(10) && opened.elapsed() <= seconds(10) + TOLERANCE, "{:?}", opened.elapsed());
    // A deadline that stays set after it passed would spin, and send without end.
    let more = tokio::time::timeout(seconds(60), chunks.recv()).await;
    assert!(more.is_err(), "{more:?}");
    drop(chunks);
    serving.await.unwrap();
}
