//! The directory: `*` always means the channels that the org owns at that moment.

use std::time::{Duration, Instant};

use crewcast_publisher::{Outcome, Publisher};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    command::{self, crewcast_on},
    gateway::{self, Gateway, client},
    http::{get, post, problem},
    redis::RedisServer,
    socket::{Socket, connect},
    sse::EventStream,
    token::token,
};

/// How long an open socket may still carry a channel that has moved away.
const SOON: Duration = Duration::from_secs(1);

/// The events that find out whether a socket has joined, and that end the search.
const KNOCK: &str = "knock";
const ENTER: &str = "enter";

fn everything_of(org: &str) -> String {
    token(json!({ "org": org, "crews": "*", "runs": "*" }))
}

async fn register(redis: &RedisServer, crew: &str, org: &str, more: &[&str]) {
    command::done(redis, &[&["register", "crew", crew, "--org", org], more].concat()).await;
}

/// Logs an event and returns its id.
async fn log(redis: &RedisServer, channel: &str, said: &str) -> String {
    let event = json!({ "type": "signal", "said": said, "payload": { "status": "busy" } });
    command::done(redis, &["publish", channel, &event.to_string()]).await
}

fn live(redis: &RedisServer, channel: &str, said: &str) -> i64 {
    redis.publish(channel, json!({ "type": "x", "said": said }).to_string().as_bytes())
}

/// The text of the next event. Knocks are skipped.
async fn said(socket: &mut Socket) -> String {
    loop {
        let event = socket.event().await;
        let word = event["said"].as_str().unwrap_or_else(|| panic!("{event}"));
        if word != KNOCK && word != ENTER {
            return word.to_owned();
        }
    }
}

async fn hears(socket: &mut Socket, word: &str) {
    while said(socket).await != word {}
}

/// A `*` socket for graphs that has joined the existing channels and reads a crew of its org.
async fn all_graphs(redis: &RedisServer, gateway: &Gateway, org: &str) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/graph"), Some(&everything_of(org))).await;
    let own = format!("graph:own-of-{org}");
    let began = Instant::now();
    live(redis, &own, KNOCK);
    while socket.is_quiet().await {
        assert!(began.elapsed() < PATIENCE, "nothing arrives from {own}");
        live(redis, &own, KNOCK);
    }
    live(redis, &own, ENTER);
    while socket.event().await["said"] != ENTER {}
    socket
}

/// A `*` socket for missions that has joined the existing channels of this many crews.
async fn all_missions(gateway: &Gateway, org: &str, crews: usize) -> Socket {
    let mut socket = connect(&gateway.ws("/ws/mission"), Some(&everything_of(org))).await;
    for _ in 0..crews {
        socket.event().await;
    }
    socket
}

#[tokio::test]
async fn a_crew_that_appears_joins_open_sockets_from_its_first_event() {
    let redis = RedisServer::start();
    for org in ["acme", "zeta"] {
        register(&redis, &format!("own-of-{org}"), org, &[]).await;
    }
    let gateway = gateway::on(&redis, &[]).await;
    let mut graphs = all_graphs(&redis, &gateway, "acme").await;
    let mut missions = all_missions(&gateway, "acme", 1).await;
    let mut foreign = [all_graphs(&redis, &gateway, "zeta").await, all_missions(&gateway, "zeta", 1).await];

    // By hand, for producers that only know Redis, without waiting for the gateway to join.
    register(&redis, "by-hand", "acme", &[]).await;
    for n in ["first", "second"] {
        log(&redis, "graph:by-hand", n).await;
    }
    log(&redis, "mission:by-hand", "busy").await;
    assert_eq!(said(&mut graphs).await, "first");
    assert_eq!(said(&mut graphs).await, "second");
    busy(&mut missions, None).await;

    // Through the publisher, which registers its crew.
    let publisher = Publisher::builder().org("acme").connect(&redis.url()).await.unwrap();
    publisher.tools("emitted", "r1", "coder").start("search", &json!({})).end(0, Outcome::Success);
    publisher.mission("emitted").busy();
    assert_eq!(publisher.close(Duration::from_secs(5)).await.events, 0);
    for kind in ["tool_start", "tool_end"] {
        let event = graphs.event().await;
        assert_eq!((&event["type"], &event["crew_id"]), (&json!(kind), &json!("emitted")));
    }
    busy(&mut missions, Some("emitted")).await;

    for socket in &mut foreign {
        assert!(socket.is_quiet().await, "a socket of another org received an event");
    }
    assert!(graphs.is_quiet().await, "each event once");
}

/// Waits for the crew's status, which an earlier `offline` may precede.
async fn busy(missions: &mut Socket, crew: Option<&str>) {
    let mut event = missions.event().await;
    if event["payload"]["status"] == "offline" {
        event = missions.event().await;
    }
    assert_eq!(event["payload"]["status"], "busy");
    assert!(crew.is_none_or(|crew| event["payload"]["crewId"] == crew), "{event}");
}

/// Sockets of one org on one replica that read the crew `moved`, among others.
struct Watchers {
    graphs: Socket,
    missions: Socket,
}

impl Watchers {
    async fn new(redis: &RedisServer, gateway: &Gateway, org: &str, crews: usize) -> Self {
        Self { graphs: all_graphs(redis, gateway, org).await, missions: all_missions(gateway, org, crews).await }
    }
}

#[tokio::test]
async fn a_moved_crew_leaves_open_sockets_and_takes_no_history_along() {
    let redis = RedisServer::start();
    for (crew, org) in [("own-of-acme", "acme"), ("own-of-zeta", "zeta"), ("moved", "acme")] {
        register(&redis, crew, org, &[]).await;
    }
    let first_of_acme = log(&redis, "graph:moved", "of acme").await;
    log(&redis, "mission:moved", "of acme").await;
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let (mut former, mut new) = (Vec::new(), Vec::new());
    let mut one_by_one = Vec::new();
    for replica in &replicas {
        former.push(Watchers::new(&redis, replica, "acme", 2).await);
        new.push(Watchers::new(&redis, replica, "zeta", 1).await);
        let one = connect(&replica.ws("/ws/graph/moved?since=0"), Some(&everything_of("acme"))).await;
        let request = client().get(replica.url("/sse?channel=graph:moved&since=0")).bearer_auth(everything_of("acme"));
        one_by_one.push((one, EventStream::open(request).await));
    }
    // In the replicas' memory as well as in the log.
    log(&redis, "graph:moved", "of acme, too").await;
    for (watchers, (one, stream)) in former.iter_mut().zip(&mut one_by_one) {
        hears(&mut watchers.graphs, "of acme, too").await;
        assert_eq!(said(one).await, "of acme");
        assert_eq!(said(one).await, "of acme, too");
        assert_eq!(stream.event().await.json()["said"], "of acme");
        assert_eq!(stream.event().await.json()["said"], "of acme, too");
    }

    register(&redis, "moved", "zeta", &["--move"]).await;
    let moved = Instant::now();
    for (one, stream) in &mut one_by_one {
        assert_eq!(one.closed().await.0, 4403);
        let last = stream.next().await.expect("the reason for the end");
        assert_eq!((last.kind.as_str(), &last.json()["code"]), ("error", &json!("forbidden")));
        assert!(stream.next().await.is_none());
    }
    let mut round = 0;
    for watchers in &mut former {
        loop {
            round += 1;
            live(&redis, "graph:moved", &format!("round {round} of zeta"));
            live(&redis, "graph:own-of-acme", &format!("round {round} of acme"));
            if said(&mut watchers.graphs).await.ends_with("of acme") {
                break;
            }
            assert!(moved.elapsed() < SOON, "{:?} after the move", moved.elapsed());
            hears(&mut watchers.graphs, &format!("round {round} of acme")).await;
        }
    }
    assert!(moved.elapsed() < SOON, "{:?}", moved.elapsed());

    log(&redis, "graph:moved", "of zeta").await;
    for watchers in &mut new {
        // Around the move, a replica may deliver or miss live events, but never an event of acme.
        loop {
            let heard = said(&mut watchers.graphs).await;
            assert!(heard.ends_with("of zeta"), "{heard}");
            if heard == "of zeta" {
                break;
            }
        }
        assert_eq!(watchers.missions.event().await["payload"], json!({ "status": "offline", "crewId": "moved" }));
    }
    log(&redis, "mission:moved", "of zeta").await;
    for watchers in &mut new {
        assert_eq!(said(&mut watchers.missions).await, "of zeta");
    }
    live(&redis, "graph:own-of-acme", "the end");
    for watchers in &mut former {
        hears(&mut watchers.graphs, "the end").await;
        assert!(watchers.graphs.is_quiet().await && watchers.missions.is_quiet().await);
    }
    for replica in &replicas {
        newcomers_see_only_what_is_zetas(replica, &first_of_acme).await;
        refused_to_acme(replica).await;
    }
}

async fn newcomers_see_only_what_is_zetas(replica: &Gateway, first_of_acme: &str) {
    let zeta = everything_of("zeta");
    for since in ["0", first_of_acme, "nonsense"] {
        let mut socket = connect(&replica.ws(&format!("/ws/graph/moved?since={since}")), Some(&zeta)).await;
        let reset = socket.json().await;
        assert_eq!((&reset["type"], &reset["source"]), (&json!("reset"), &json!("gateway")), "{since}: {reset}");
        assert_eq!(said(&mut socket).await, "of zeta", "{since}");
        let history = get(replica, &format!("/api/v1/channels/graph:moved/events?after={since}"), &zeta).await;
        let history: Value = history.json().await.unwrap();
        let events = history["events"].as_array().unwrap();
        assert!(events.len() == 1 && events[0]["said"] == "of zeta", "{since}: {history}");
        assert!(history["reset"].is_object(), "{since}: {history}");
    }
    let request = client().get(replica.url("/sse?channel=graph:moved&since=0")).bearer_auth(&zeta);
    assert_eq!(EventStream::open(request).await.event().await.json()["said"], "of zeta");
    let mut missions = connect(&replica.ws("/ws/mission"), Some(&zeta)).await;
    let retained = [missions.event().await, missions.event().await];
    assert!(retained.iter().any(|event| event["said"] == "of zeta"), "{retained:?}");
    assert!(retained.iter().all(|event| event["said"] != "of acme"), "{retained:?}");
}

async fn refused_to_acme(replica: &Gateway) {
    let acme = token(json!({ "crews": ["moved"], "publish": ["graph:moved"] }));
    let mut socket = connect(&replica.ws("/ws/graph/moved"), Some(&acme)).await;
    assert_eq!(socket.closed().await.0, 4403);
    problem(get(replica, "/api/v1/channels/graph:moved/events", &acme).await, 403, "forbidden").await;
    let body = json!({ "channel": "graph:moved", "event": { "type": "x" } });
    problem(post(replica, "/api/v1/publish", &acme, body).await, 403, "forbidden").await;
}

#[tokio::test]
async fn a_removed_crew_leaves_open_sockets() {
    let redis = RedisServer::start();
    for crew in ["own-of-acme", "gone"] {
        register(&redis, crew, "acme", &[]).await;
    }
    let gateway = gateway::on(&redis, &[]).await;
    let mut all = all_graphs(&redis, &gateway, "acme").await;
    let mut one = connect(&gateway.ws("/ws/graph/gone"), Some(&everything_of("acme"))).await;
    let by_name = token(json!({ "crews": ["gone"] }));
    let mut listed = connect(&gateway.ws("/ws/graph/gone?since=0"), Some(&by_name)).await;
    let id = log(&redis, "graph:gone", "before").await;
    assert_eq!(listed.event().await["id"], id.as_str());
    hears(&mut all, "before").await;
    register(&redis, "gone", "acme", &["--remove"]).await;
    assert_eq!(one.closed().await.0, 4403, "`*` means what the directory says");
    log(&redis, "graph:gone", "after").await;
    assert_eq!(said(&mut listed).await, "after", "a crew without an owner is open to tokens that name it");
    live(&redis, "graph:own-of-acme", "the end");
    assert_eq!(said(&mut all).await, "the end");
}

#[tokio::test]
async fn moving_a_run_to_another_org_closes_its_sockets() {
    let redis = RedisServer::start();
    let register = |org: &'static str, more: &'static [&'static str]| {
        let arguments = [&["register", "run", "r1", "--org", org], more].concat();
        let redis = &redis;
        async move { command::done(redis, &arguments).await }
    };
    register("acme", &[]).await;
    let gateway = gateway::on(&redis, &[]).await;
    let mut socket = connect(&gateway.ws("/ws/runs/r1"), Some(&everything_of("acme"))).await;
    log(&redis, "run:r1", "of acme").await;
    assert_eq!(said(&mut socket).await, "of acme");
    register("zeta", &["--move"]).await;
    let moved = Instant::now();
    assert_eq!(socket.closed().await.0, 4403);
    assert!(moved.elapsed() < SOON, "{:?}", moved.elapsed());
    log(&redis, "run:r1", "of zeta").await;
    let mut socket = connect(&gateway.ws("/ws/runs/r1"), Some(&everything_of("zeta"))).await;
    assert_eq!(socket.json().await["type"], "reset", "the new history is not announced");
    assert_eq!(said(&mut socket).await, "of zeta");
}

#[tokio::test]
async fn the_first_owner_of_an_id_keeps_it() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let writer = |org: &str| token(json!({ "org": org, "publish": ["graph:*"] }));
    let body = |org: &str| json!({ "kind": "crew", "id": "abc", "org": org });
    for _ in 0..2 {
        let answer = post(&gateway, "/api/v1/directory", &writer("acme"), body("acme")).await;
        assert_eq!(answer.status(), 200, "registering an own id again succeeds");
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "kind": "crew", "id": "abc", "org": "acme" }));
    }
    problem(post(&gateway, "/api/v1/directory", &writer("zeta"), body("zeta")).await, 409, "owned-by-another").await;
    let refused = command::run(&mut crewcast_on(&redis, &["register", "crew", "abc", "--org", "zeta"])).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("belongs to acme") && refused.err.contains("--move"), "{refused:?}");
    // A publisher of the other org is refused, too, and nothing of it reaches acme's sockets.
    let mut socket = connect(&gateway.ws("/ws/graph/abc"), Some(&everything_of("acme"))).await;
    let forged = json!({ "channel": "graph:abc", "event": { "type": "forged" } });
    problem(post(&gateway, "/api/v1/publish", &writer("zeta"), forged).await, 403, "forbidden").await;
    assert!(socket.is_quiet().await);
}
