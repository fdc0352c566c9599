//! Several replicas on one Redis, and the load of a replica on Redis.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

use crewcast_events::{Body, EventId, Keys, Kind, Namespaces};
use crewcast_publisher::{
    Ownership, OwnershipMode, OwnershipOutcome, Publisher, RedisClient, RedisTransport, Transport,
};
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, eventually,
    gateway::{self, Gateway},
    publish::{logged, until_heard},
    redis::RedisServer,
    socket::{Socket, connect},
    token::token,
};

#[tokio::test]
async fn subscribers_on_both_replicas_see_the_same_ids_in_the_same_order() {
    const PUBLISHERS: usize = 4;
    const EACH: usize = 250;
    let redis = RedisServer::start();
    let (a, b) = (gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await);
    let token = token(json!({ "crews": ["abc"] }));
    let mut sockets = Vec::new();
    for gateway in [&a, &b, &a, &b] {
        let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&token)).await;
        until_heard(&redis, "graph:abc", &mut socket).await;
        sockets.push(socket);
    }
    // The first sockets also received the markers for the later ones.
    redis.publish("graph:abc", br#"{"type":"begin"}"#);
    for socket in &mut sockets {
        while socket.json().await["type"] != "begin" {}
    }

    let publishing = (0..PUBLISHERS).map(|who| {
        let url = redis.url();
        tokio::spawn(async move {
            let publisher = Publisher::connect(&url).await.unwrap();
            for n in 0..EACH {
                publisher.publish("graph:abc", &json!({ "type": "step", "who": who, "n": n })).unwrap();
                tokio::task::yield_now().await;
            }
            assert_eq!(publisher.close(PATIENCE).await.events, 0);
        })
    });
    let publishing: Vec<_> = publishing.collect();
    let by_http = async {
        for n in 0..50 {
            let event = json!({ "type": "step", "who": PUBLISHERS, "n": n });
            logged([&a, &b][n % 2], "graph:abc", &event.to_string()).await;
        }
    };
    by_http.await;
    for task in publishing {
        task.await.unwrap();
    }

    let count = PUBLISHERS * EACH + 50;
    let mut histories = Vec::new();
    for socket in &mut sockets {
        let mut history = Vec::new();
        for _ in 0..count {
            history.push(socket.text().await);
        }
        histories.push(history);
    }
    let mut of_each: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut before: Option<EventId> = None;
    for text in &histories[0] {
        let id = EventId::of_message(text.as_bytes()).unwrap();
        assert!(id.continues(before), "{id} after {before:?}");
        before = Some(id);
        let event: Value = serde_json::from_str(text).unwrap();
        of_each.entry(event["who"].as_u64().unwrap()).or_default().push(event["n"].as_u64().unwrap());
    }
    assert!(histories.iter().all(|history| *history == histories[0]));
    assert!(
        of_each.values().all(|numbers| numbers.is_sorted_by(|a, b| *b == a + 1)),
        "the order of a publisher is not kept"
    );
}

/// The lines of CLIENT LIST with subscriptions.
fn subscribers(redis: &RedisServer) -> Vec<String> {
    let subscribes = |line: &String| field(line, "sub") + field(line, "psub") + field(line, "ssub") > 0;
    redis.clients().into_iter().filter(subscribes).collect()
}

fn field(line: &str, name: &str) -> usize {
    let value = line.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn channels(redis: &RedisServer, pattern: &str) -> usize {
    redis.run::<Vec<String>>(&[b"PUBSUB", b"CHANNELS", pattern.as_bytes()]).len()
}

#[tokio::test]
async fn a_replica_has_one_subscriber_connection_however_many_sockets_are_open() {
    const SOCKETS: usize = 200;
    const CHANNELS: usize = 50;
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let crews: Vec<String> = (0..CHANNELS).map(|n| format!("c{n}")).collect();
    let token = token(json!({ "crews": crews }));
    let open = (0..SOCKETS).map(|n| {
        let url = replicas[n % 2].ws(&format!("/ws/graph/c{}", n / 2 % CHANNELS));
        let token = &token;
        async move { connect(&url, Some(token)).await }
    });
    let mut sockets: Vec<Socket> = join_all(open).await;
    let heard_by_both =
        |channel: String| redis.run::<(String, usize)>(&[b"PUBSUB", b"NUMSUB", channel.as_bytes()]).1 == 2;
    eventually("every channel is subscribed on both replicas", || async {
        (0..CHANNELS).all(|n| heard_by_both(format!("graph:c{n}")))
    })
    .await;
    let subscribers = subscribers(&redis);
    assert_eq!(subscribers.len(), 2, "{subscribers:#?}");
    for line in &subscribers {
        assert!(line.contains("name=crewcast-sub-"), "{line}");
        // The channels, and those for control and probes.
        assert_eq!(field(line, "sub"), CHANNELS + 2, "{line}");
    }
    let all = redis.clients().len();
    assert!(all < SOCKETS / 4, "{all} connections from two replicas");

    for n in 0..CHANNELS {
        let message = format!(r#"{{"type":"to","crew":{n}}}"#);
        // Two replicas received it, however many sockets there are.
        assert_eq!(redis.publish(&format!("graph:c{n}"), message.as_bytes()), 2);
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.json().await["crew"], n / 2 % CHANNELS);
    }
}

#[tokio::test]
async fn ten_thousand_channels_subscribe_and_unsubscribe() {
    const CHANNELS: usize = 10_000;
    let redis = RedisServer::start();
    register_crews(&redis, CHANNELS).await;
    let gateway = gateway::on(&redis, &[]).await;
    let began = Instant::now();
    let mut socket = connect(&gateway.ws("/ws/graph"), Some(&token(json!({ "crews": "*" })))).await;
    eventually("every channel is subscribed", || async { channels(&redis, "graph:*") == CHANNELS }).await;
    println!("{CHANNELS} channels subscribed in {:?}", began.elapsed());
    assert_eq!(subscribers(&redis).len(), 1);

    let mut expected = HashSet::new();
    for n in (0..CHANNELS).step_by(97) {
        let message = format!(r#"{{"type":"to","crew":{n}}}"#);
        assert_eq!(redis.publish(&format!("graph:crew-{n}"), message.as_bytes()), 1);
        expected.insert(message);
    }
    while !expected.is_empty() {
        assert!(expected.remove(&socket.text().await));
    }
    // A new crew joins the socket that reads ten thousand.
    let began = Instant::now();
    register(&redis_transport(&redis), "newcomer").await;
    eventually("the new channel is subscribed", || async { channels(&redis, "graph:newcomer") == 1 }).await;
    println!("one more in {:?}", began.elapsed());
    assert_eq!(gateway.metric("crewcast_subscriptions", "graph").await, (CHANNELS + 1) as f64);

    socket.inner.close(None).await.unwrap();
    let began = Instant::now();
    eventually("no channel is read", || async { gateway.metric("crewcast_subscriptions", "graph").await == 0.0 }).await;
    eventually("every channel is unsubscribed", || async { channels(&redis, "graph:*") == 0 }).await;
    println!("all given up {:?} after the socket was closed", began.elapsed());
    assert_eq!(gateway.metric("crewcast_broker_reconnects_total", "").await, 0.0);
    assert!(gateway.is_ready().await);

    // The channels can be subscribed again.
    let mut again = connect(&gateway.ws("/ws/graph/crew-7"), Some(&token(json!({ "crews": "*" })))).await;
    until_heard(&redis, "graph:crew-7", &mut again).await;
}

fn redis_transport(redis: &RedisServer) -> RedisTransport {
    let redis = RedisClient::new(&redis.url(), &Default::default(), 2, "test").unwrap();
    RedisTransport::new(redis, Keys::default(), String::new(), Namespaces::default())
}

async fn register(transport: &RedisTransport, crew: &str) {
    let ownership = Ownership { kind: Kind::Crew, id: crew.to_owned(), org: "acme".to_owned(), crew: None };
    assert_eq!(transport.register(&ownership, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
}

/// Crews `crew-0`, `crew-1` … of the org `acme`.
async fn register_crews(redis: &RedisServer, count: usize) {
    let transport = Arc::new(redis_transport(redis));
    let registering = stream::iter(0..count).for_each_concurrent(100, |n| {
        let transport = transport.clone();
        async move { register(&transport, &format!("crew-{n}")).await }
    });
    registering.await;
}

/// The number of scripts that were run.
fn scripts_run(redis: &RedisServer) -> u64 {
    let stats: String = redis.run(&[b"INFO", b"commandstats"]);
    let calls = stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_eval"))
        .map(|line| line.split("calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).unwrap());
    calls.sum()
}

async fn fill(redis: &RedisServer, channel: &str, count: usize) {
    let publisher = Publisher::connect(&redis.url()).await.unwrap();
    for n in 0..count {
        let event = format!(r#"{{"type":"step","n":{n},"filler":"{}"}}"#, "x".repeat(200));
        assert!(Body::parse(event.clone()).is_ok());
        publisher.publish_raw(channel, event).unwrap();
    }
    assert_eq!(publisher.close(PATIENCE).await.events, 0);
}

#[tokio::test]
async fn clients_that_resume_together_share_their_reads_of_the_log() {
    const CLIENTS: usize = 50;
    const EVENTS: usize = 1000;
    let redis = RedisServer::start();
    fill(&redis, "graph:abc", EVENTS).await;
    let gateway = gateway::on(&redis, &[]).await;
    let token = token(json!({ "crews": ["abc"] }));
    let before = scripts_run(&redis);
    // As after the death of a replica, all clients are here before Redis answers the first.
    let () = redis.run(&[b"CLIENT", b"PAUSE", b"500", b"WRITE"]);
    let came = join_all((0..CLIENTS).map(|_| connect_since_zero(&gateway, &token))).await;
    let read = came.into_iter().map(|mut socket| async move {
        for offset in 1..=EVENTS {
            let id = socket.event().await["id"].as_str().unwrap().to_owned();
            assert!(id.starts_with(&format!("{offset}-")), "{id}");
        }
    });
    join_all(read).await;
    let reads = scripts_run(&redis) - before;
    println!("{reads} reads for {CLIENTS} clients");
    assert!(reads < CLIENTS as u64 / 2, "{reads} reads");
}

async fn connect_since_zero(gateway: &Gateway, token: &str) -> Socket {
    connect(&gateway.ws("/ws/graph/abc?since=0"), Some(token)).await
}
