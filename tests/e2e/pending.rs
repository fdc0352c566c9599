//! Ids without an owner: sockets wait for one, events bring one, and nothing of another org is read meanwhile.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    command, eventually,
    gateway::{self, Gateway, client},
    http::{get, post, problem, publish},
    redis::RedisServer,
    socket::{Socket, connect},
    sse::EventStream,
    token::token,
};

fn reader(org: &str) -> String {
    token(json!({ "org": org, "crews": "*", "runs": "*", "streams": "*" }))
}

fn writer(org: &str) -> String {
    token(json!({ "sub": "writer", "org": org, "publish": ["graph:*", "run:*", "stream:*"] }))
}

async fn register(gateway: &Gateway, org: &str, kind: &str, id: &str) {
    let answer = post(gateway, "/api/v1/directory", &writer(org), json!({ "kind": kind, "id": id })).await;
    assert_eq!(answer.status(), 200, "{kind} {id}");
}

async fn stream(gateway: &Gateway, token: &str, channels: &[&str]) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/stream"), Some(token)).await;
    for channel in channels {
        socket.send(&json!({ "action": "subscribe", "channel": channel }).to_string()).await;
    }
    socket
}

/// The number in the next event.
async fn number(socket: &mut Socket) -> u64 {
    let event = socket.event().await;
    event["n"].as_u64().or_else(|| event["event"]["n"].as_u64()).unwrap_or_else(|| panic!("{event}"))
}

fn live(redis: &RedisServer, channel: &str, n: u64) -> i64 {
    redis.publish(channel, json!({ "type": "x", "n": n }).to_string().as_bytes())
}

#[tokio::test]
async fn a_pending_channel_is_joined_from_its_first_event_or_refused() {
    let redis = RedisServer::start();
    for gateway in [gateway::memory(&[]).await, gateway::on(&redis, &[]).await] {
        let mut waiting = stream(&gateway, &reader("acme"), &["stream:p1", "stream:p2"]).await;
        for id in ["stream:p1", "stream:p2"] {
            let answer = waiting.json().await;
            let expected = json!({ "type": "subscribed", "channel": id, "position": { id: null }, "pending": [id] });
            assert_eq!(answer, expected);
        }
        let mut crew = connect(&gateway.ws("/ws/graph/p1"), Some(&reader("acme"))).await;
        let mut sse = EventStream::open(
            client().get(gateway.url("/sse?channel=graph:p1&channel=graph:p2")).bearer_auth(reader("acme")),
        )
        .await;
        sse.opened().await;
        register(&gateway, "globex", "stream", "p2").await;
        let refusal = waiting.json().await;
        assert_eq!((&refusal["code"], &refusal["channel"]), (&json!("forbidden"), &json!("stream:p2")), "{refusal}");
        publish(&gateway, &writer("globex"), "stream:p2", json!({ "type": "x", "n": 0 })).await;
        for n in 1..=2 {
            publish(&gateway, &writer("acme"), "stream:p1", json!({ "type": "x", "n": n })).await;
            assert_eq!(number(&mut waiting).await, n);
        }
        publish(&gateway, &writer("acme"), "graph:p1", json!({ "type": "x", "n": 3 })).await;
        assert_eq!((number(&mut crew).await, sse.event().await.json()["n"].as_u64()), (3, Some(3)));
        register(&gateway, "globex", "crew", "p1-of-globex").await;
        let mut late = connect(&gateway.ws("/ws/graph/p1-of-globex"), Some(&reader("acme"))).await;
        assert_eq!(late.closed().await.0, 4403, "it is not pending: another org owns it");
    }
}

#[tokio::test]
async fn an_id_that_goes_to_another_org_closes_those_who_waited_for_it() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut sockets = Vec::new();
    for path in ["/ws/graph/next", "/ws/graph?crew_id=next", "/ws/graph/next?since=0"] {
        let mut socket = connect(&gateway.ws(path), Some(&reader("acme"))).await;
        assert!(socket.is_quiet().await);
        sockets.push(socket);
    }
    // Whoever waits reads nothing, whatever is published meanwhile.
    eventually("its channel is subscribed", || async { live(&redis, "graph:next", 1) > 0 }).await;
    command::done(&redis, &["register", "crew", "next", "--org", "globex"]).await;
    command::done(&redis, &["publish", "graph:next", r#"{"type":"x","n":2}"#]).await;
    for mut socket in sockets {
        let (code, reason) = socket.closed().await;
        assert!(code == 4403 && reason.contains("ask for access"), "{code} {reason}");
    }
    problem(get(&gateway, "/api/v1/channels/graph:next/events", &reader("acme")).await, 403, "forbidden").await;
}

#[tokio::test]
async fn a_waiting_socket_reads_on_from_the_registration() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut graph = connect(&gateway.ws("/ws/graph/new"), Some(&reader("acme"))).await;
    let mut streams = stream(&gateway, &reader("acme"), &["graph:new"]).await;
    assert_eq!(streams.json().await["pending"], json!(["graph:new"]));
    eventually("its channel is subscribed", || async { live(&redis, "graph:new", 1) > 0 }).await;
    assert!(graph.is_quiet().await && streams.is_quiet().await);
    // What was published while nobody owned the id is nobody's, but for the last two seconds: the rule is about time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    live(&redis, "graph:new", 2);
    command::done(&redis, &["register", "crew", "new", "--org", "acme"]).await;
    for socket in [&mut graph, &mut streams] {
        assert_eq!(number(socket).await, 2);
    }
    live(&redis, "graph:new", 3);
    assert_eq!([number(&mut graph).await, number(&mut streams).await], [3, 3]);
}

/// The README's walk: register a crew, PUBLISH a tool event, open the run.
#[tokio::test]
async fn a_run_that_an_event_of_a_registered_crew_names_is_that_crews() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    command::done(&redis, &["register", "crew", "abc", "--org", "acme"]).await;
    command::done(&redis, &["register", "crew", "other", "--org", "zeta"]).await;
    let named = |crew: &str, run: &str| {
        redis.publish(
            &format!("graph:{crew}"),
            json!({ "type": "tool_start", "crew_id": crew, "run_id": run }).to_string().as_bytes(),
        )
    };
    named("abc", "r1");
    let crews_only = token(json!({ "org": "acme", "crews": ["abc"] }));
    let mut mine = Vec::new();
    for (replica, token) in replicas.iter().zip([&crews_only, &reader("acme")]) {
        mine.push(connect(&replica.ws("/ws/runs/r1"), Some(token)).await);
    }
    let mut theirs = connect(&replicas[0].ws("/ws/runs/r1"), Some(&reader("globex"))).await;
    eventually("the run is read", || async { live(&redis, "run:r1", 1) >= 2 }).await;
    for socket in mine.iter_mut().chain([&mut theirs]) {
        assert!(socket.is_quiet().await, "nobody owns the run yet");
    }
    // Nobody reads the crew's own channel. The waiting sockets have it read, and no channel of another org's crews.
    eventually("the crew is read", || async { named("abc", "r1") > 0 }).await;
    for socket in &mut mine {
        assert_eq!(number(socket).await, 1, "the event before the name was known");
    }
    assert_eq!(theirs.closed().await.0, 4403);
    let _pending = connect(&replicas[1].ws("/ws/runs/r2"), Some(&reader("acme"))).await;
    eventually("the next run waits", || async { live(&redis, "run:r2", 1) > 0 && named("abc", "r3") > 0 }).await;
    assert_eq!(named("other", "r2"), 0);
    live(&redis, "run:r1", 2);
    for socket in &mut mine {
        while number(socket).await != 2 {}
    }
}

const ADOPTING: [(&str, &str); 2] = [("CREWCAST_DIRECTORY__ADOPT", "true"), ("CREWCAST_AUTH__DEFAULT_ORG", "default")];

fn everything() -> String {
    token(json!({ "org": null, "crews": "*", "runs": "*", "streams": "*", "sessions": "*" }))
}

#[tokio::test]
async fn with_adoption_a_plain_publish_is_enough() {
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &ADOPTING).await, gateway::on(&redis, &ADOPTING).await];
    let everything = everything();
    let mut waiting = Vec::new();
    for replica in &replicas {
        let paths = ["/ws/graph", "/ws/graph/abc", "/ws/runs/r1", "/ws/mission"];
        for path in paths {
            waiting.push(connect(&replica.ws(path), Some(&everything)).await);
        }
        waiting.push(stream(replica, &everything, &["stream:s1"]).await);
        assert_eq!(waiting.last_mut().unwrap().json().await["pending"], json!(null), "it is the adopter's already");
        let mut all = connect(&replica.ws("/ws/stream"), Some(&everything)).await;
        all.send(r#"{"action":"subscribe"}"#).await;
        assert_eq!(all.json().await["type"], "subscribed");
        waiting.push(all);
    }
    for channel in ["graph:abc", "run:r1", "stream:s1"] {
        for replica in &replicas {
            reads(replica, channel).await;
        }
    }
    // Nobody could have subscribed to the others because of their first event.
    let status = json!({ "type": "signal", "n": 1, "payload": { "crew_id": "abc", "status": "running" } });
    let published = [
        redis.publish("mission:abc", status.to_string().as_bytes()),
        live(&redis, "graph:abc", 1),
        live(&redis, "run:r1", 1),
        live(&redis, "stream:s1", 1),
    ];
    assert!(published.iter().all(|receivers| *receivers >= 2), "{published:?}");
    for socket in &mut waiting {
        assert_eq!(number(socket).await, 1);
    }
    for channel in ["graph:abc", "run:r1", "stream:s1"] {
        live(&redis, channel, 2);
    }
    redis.publish("mission:abc", status.to_string().replace(":1", ":2").as_bytes());
    for socket in &mut waiting {
        assert_eq!(number(socket).await, 2, "once, and in order");
        assert!(socket.is_quiet().await);
    }
    let adopted = async |replica: &Gateway| replica.metric("crewcast_ids_adopted_total", "").await;
    assert!(adopted(&replicas[0]).await + adopted(&replicas[1]).await >= 3.0);
}

/// Waits until the replica has subscribed to a channel.
async fn reads(replica: &Gateway, channel: &str) {
    let namespace = channel.split(':').next().unwrap();
    eventually("the channel is subscribed", || async {
        replica.metric("crewcast_subscriptions", &format!("\"{namespace}\"")).await >= 1.0
    })
    .await;
}

/// The numbers of the next events, as many as there should be.
async fn numbers(socket: &mut Socket, count: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(number(socket).await);
    }
    all
}

#[tokio::test]
async fn sockets_that_read_everything_miss_no_first_event_on_any_replica() {
    const IDS: u64 = 40;
    const BURST: u64 = 300;
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &ADOPTING).await, gateway::on(&redis, &ADOPTING).await];
    let mut sockets = Vec::new();
    for replica in &replicas {
        sockets.push(connect(&replica.ws("/ws/graph"), Some(&everything())).await);
    }
    for socket in &mut sockets {
        assert!(socket.is_quiet().await);
    }
    for id in 0..IDS {
        live(&redis, &format!("graph:new{id}"), id);
    }
    for socket in &mut sockets {
        let mut came = numbers(socket, IDS).await;
        came.sort_unstable();
        assert_eq!(came, (0..IDS).collect::<Vec<_>>());
    }
    for n in 0..BURST {
        live(&redis, "graph:burst", n);
    }
    for socket in &mut sockets {
        assert_eq!(numbers(socket, BURST).await, (0..BURST).collect::<Vec<_>>());
        assert!(socket.is_quiet().await);
    }
    // A socket that opens later begins with what comes then.
    let mut late = connect(&replicas[1].ws("/ws/graph/burst"), Some(&everything())).await;
    assert!(late.is_quiet().await);
    live(&redis, "graph:burst", BURST);
    assert_eq!(number(&mut late).await, BURST);
}

#[tokio::test]
async fn ids_that_redis_has_forgotten_stay_the_adopters() {
    let mut redis = RedisServer::start();
    let gateway = gateway::on(&redis, &ADOPTING).await;
    let mut sockets = Vec::new();
    for path in ["/ws/graph", "/ws/graph/abc"] {
        sockets.push(connect(&gateway.ws(path), Some(&everything())).await);
    }
    reads(&gateway, "graph:abc").await;
    live(&redis, "graph:abc", 1);
    for socket in &mut sockets {
        assert_eq!(number(socket).await, 1);
    }
    redis.kill();
    redis.restart();
    eventually("the channel is read again", || async { live(&redis, "graph:abc", 2) >= 2 }).await;
    live(&redis, "graph:abc", 3);
    for socket in &mut sockets {
        let mut last = 1;
        while last != 3 {
            let next = number(socket).await;
            assert!(next >= last && next > 1, "{next} after {last}: each event once, and in order");
            last = next;
        }
        assert!(socket.is_quiet().await);
    }
}

#[tokio::test]
async fn adoption_leaves_what_another_org_owns() {
    let redis = RedisServer::start();
    command::done(&redis, &["register", "crew", "theirs", "--org", "acme"]).await;
    let gateway = gateway::on(&redis, &ADOPTING).await;
    assert!(live(&redis, "graph:theirs", 1) > 0);
    assert!(live(&redis, "graph:ours", 1) > 0);
    eventually("the other is adopted", || async { gateway.metric("crewcast_ids_adopted_total", "crew").await == 1.0 })
        .await;
    let mut theirs = connect(&gateway.ws("/ws/graph/theirs"), Some(&everything())).await;
    assert_eq!(theirs.closed().await.0, 4403);
    let none = gateway::on(&redis, &[]).await;
    assert_eq!(live(&redis, "graph:unknown", 1), 1, "only the adopting replica receives what nobody reads");
    drop(none);
}
