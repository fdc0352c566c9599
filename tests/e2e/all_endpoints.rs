//! A thousand sockets on all endpoints at once, and a thousand events per second. No event is lost.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Body, Channel, Kind};
use crewcast_publisher::{Append, Entry, Once, Ownership, OwnershipMode, OwnershipOutcome, RedisTransport, Transport};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    storm::transport,
    support::{
        PATIENCE,
        gateway::{self, Gateway},
        redis::RedisServer,
        socket::{Socket, connect},
        token::token,
    },
};

const ORGS: usize = 20;
/// Sockets of an org on each endpoint that carries every event of a channel. With the sockets for documents, fifty.
const EACH: usize = 5;
const SHOWN: [&str; 5] = ["/ws/metrics", "/ws/metrics", "/ws/metrics", "/ws/dashboard", "/ws/dashboard"];
const SOCKETS: usize = ORGS * (9 * EACH + SHOWN.len());
/// Events of each channel after the first, which is published before any socket opens.
const ROUNDS: usize = 30;
const EVENTS_PER_SECOND: usize = 1000;

const SETTINGS: [(&str, &str); 3] = [
    ("CREWCAST_LIMITS__PER_USER", "0"),
    ("CREWCAST_FORGE__METRICS_EVERY", "1s"),
    ("CREWCAST_FORGE__DASHBOARD_EVERY", "1s"),
];

/// The channels of an org that its sockets follow.
fn channels(n: usize) -> [Channel; 9] {
    let org = format!("org{n}");
    let of_org = |namespace: &str| Channel::new(namespace, &org).unwrap();
    let own = |namespace: &str| Channel::new(namespace, &format!("x{n}")).unwrap();
    let crew = [own("run"), own("graph"), own("mission"), own("stream"), own("session")];
    let [run, graph, mission, stream, session] = crew;
    [run, graph, mission, stream, session, of_org("hub"), of_org("agents"), of_org("tasks"), of_org("knowledge")]
}

/// The path on which a socket reads a channel from its beginning, and its first message.
fn endpoint(channel: &Channel, client: usize) -> (String, Option<String>) {
    let id = channel.id();
    let (path, first) = match channel.namespace() {
        "run" => (format!("/ws/runs/{id}?since=0"), None),
        "graph" => (format!("/ws/graph/{id}?since=0"), None),
        // Starts with the retained event.
        "mission" => ("/ws/mission".to_owned(), None),
        "stream" => ("/ws/stream".to_owned(), Some(json!({ "action": "subscribe", "channel": channel, "since": "0" }))),
        "session" => (
            format!("/ws/agent-tracking/client_{client}_x"),
            Some(json!({ "type": "start_log_streaming", "session_id": id })),
        ),
        "hub" => ("/ws?since=0".to_owned(), None),
        of_forge => (format!("/ws/{of_forge}?since=0"), None),
    };
    (path, first.map(|first: Value| first.to_string()))
}

/// One event of each channel: a status for a mission, a log line for a session.
async fn publish(transport: &RedisTransport, tick: usize) {
    let append = |channel: Channel| async move {
        let kind = match channel.namespace() {
            "mission" => "signal",
            "session" => "session_log",
            _ => "step",
        };
        let event = json!({ "type": kind, "message": "m", "payload": { "crewId": channel.id(), "status": "busy" },
                            "data": {}, "tick": tick });
        let entries = vec![Entry::new(Body::parse(event.to_string()).unwrap())];
        let told = transport.append(&Append { channel, entries, once: Once::No }).await.unwrap();
        assert!(told[0].is_some(), "the event is not logged");
    };
    join_all((0..ORGS).flat_map(channels).map(append)).await;
}

async fn register(transport: &RedisTransport) {
    for n in 0..ORGS {
        for kind in [Kind::Crew, Kind::Run, Kind::Stream, Kind::Session] {
            let ownership = Ownership { kind, id: format!("x{n}"), org: format!("org{n}"), crew: None };
            assert_eq!(transport.register(&ownership, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
        }
    }
}

/// Reads the next event. It must follow the last one, and none may be reported as missing.
async fn follow(mut socket: Socket, channel: Channel, open: Arc<Barrier>) {
    let mut next = 0;
    while next <= ROUNDS {
        let text = socket.text().await;
        assert!(!["\"reset\"", "\"gap\"", "\"error\""].iter().any(|told| text.contains(told)), "{channel}: {text}");
        for told in text.split("\"tick\":").skip(1) {
            let digits = told.find(|c: char| !c.is_ascii_digit()).unwrap_or(told.len());
            assert_eq!(told[..digits].parse(), Ok(next), "{channel}: {text}");
            next += 1;
            if next == 1 {
                open.wait().await;
            }
        }
    }
}

/// Reads documents for as long as the other sockets read.
async fn watch(mut socket: Socket, open: Arc<Barrier>) {
    socket.text().await;
    open.wait().await;
    let until = Instant::now() + Duration::from_secs_f64((ORGS * 9 * ROUNDS) as f64 / EVENTS_PER_SECOND as f64);
    let mut documents = 0;
    while Instant::now() < until {
        socket.text().await;
        documents += 1;
    }
    assert!(documents >= 2, "{documents} documents");
}

/// The processor time of a process, in seconds.
fn processor_time(gateway: &Gateway) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    // USER_HZ, which is 100 on Linux.
    ticks.sum::<f64>() / 100.0
}

/// Publishes on a separate thread, because a thousand sockets would delay the answers of Redis. Returns the time it
/// took.
async fn publish_all(transport: RedisTransport) -> Duration {
    let publishing = async move {
        let mut pace = interval(Duration::from_secs_f64((ORGS * 9) as f64 / EVENTS_PER_SECOND as f64));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let began = Instant::now();
        for tick in 1..=ROUNDS {
            pace.tick().await;
            publish(&transport, tick).await;
        }
        began.elapsed()
    };
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::spawn_blocking(move || own.block_on(publishing)).await.unwrap()
}

#[tokio::test]
async fn a_thousand_sockets_on_all_endpoints_miss_nothing() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &SETTINGS).await;
    let before = (gateway.resident(), processor_time(&gateway));
    let writer = transport(&redis);
    register(&writer).await;
    publish(&writer, 0).await;

    let open = Arc::new(Barrier::new(SOCKETS + 1));
    let mut sockets = JoinSet::new();
    for n in 0..ORGS {
        let claims = json!({ "org": format!("org{n}"), "crews": [format!("x{n}")], "runs": [format!("x{n}")],
                             "streams": [format!("x{n}")], "sessions": [format!("x{n}")] });
        let token = token(claims);
        for channel in channels(n) {
            for client in 0..EACH {
                let (path, first) = endpoint(&channel, n * EACH + client);
                let mut socket = connect(&gateway.ws(&path), Some(&token)).await;
                if let Some(first) = first {
                    socket.send(&first).await;
                }
                sockets.spawn(follow(socket, channel.clone(), open.clone()));
            }
        }
        for path in SHOWN {
            let socket = connect(&gateway.ws(path), Some(&token)).await;
            sockets.spawn(watch(socket, open.clone()));
        }
    }
    assert_eq!(sockets.len(), SOCKETS);
    tokio::time::timeout(PATIENCE, open.wait()).await.expect("every socket is open");
    let idle = (gateway.resident(), processor_time(&gateway));
    let took = publish_all(writer).await;
    while let Some(ended) = sockets.join_next().await {
        ended.unwrap();
    }
    let rate = (ORGS * 9 * ROUNDS) as f64 / took.as_secs_f64();
    println!(
        "{SOCKETS} sockets: {rate:.0} events a second, {:.2} s of processor time in {:.1} s, {} bytes a socket",
        processor_time(&gateway) - idle.1,
        took.as_secs_f64(),
        (idle.0 - before.0) / SOCKETS,
    );
    assert!(rate > EVENTS_PER_SECOND as f64 / 2.0, "{rate} events a second");
}
