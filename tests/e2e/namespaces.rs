//! Custom namespaces, configured with exactly the example in docs/configuration.md.

use serde_json::{Value, json};

use crate::support::{
    command, eventually,
    gateway::{self, Gateway, client},
    http::{get, problem, publish},
    redis::RedisServer,
    socket::connect,
    sse::EventStream,
    token::token,
};

const DOCUMENT: &str = include_str!("../../docs/configuration.md");

/// A gateway with the example of the document as its configuration.
struct World {
    redis: RedisServer,
    gateway: Gateway,
    file: tempfile::NamedTempFile,
}

impl World {
    async fn new() -> Self {
        let blocks = DOCUMENT.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        let example = blocks.into_iter().find(|block| block.contains("[namespaces.builds]")).expect("the example");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), example).unwrap();
        let redis = RedisServer::start();
        let gateway = gateway::on(&redis, &[("CREWCAST_CONFIG", file.path().to_str().unwrap())]).await;
        Self { redis, gateway, file }
    }

    async fn stream(&self, query: &str, token: &str) -> EventStream {
        EventStream::open(client().get(self.gateway.url(&format!("/sse?{query}"))).bearer_auth(token)).await
    }
}

fn reader(channels: Value) -> String {
    token(json!({ "channels": channels }))
}

fn producer() -> String {
    token(json!({ "publish": ["builds:*", "notes:*"] }))
}

#[tokio::test]
async fn a_custom_namespace_is_logged_resumed_and_granted_by_the_channels_claim() {
    let world = World::new().await;
    let first = publish(&world.gateway, &producer(), "builds:web", json!({ "type": "build_started", "n": 1 })).await;
    // The command line is another producer with the same configuration file.
    let mut publishing = command::crewcast_on(
        &world.redis,
        &["--config", world.file.path().to_str().unwrap(), "publish", "builds:web", r#"{"type":"build_failed","n":2}"#],
    );
    let said = command::run(&mut publishing).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for claim in [json!(["builds:web"]), json!(["builds:*"]), json!(["other:x", "builds:web"])] {
        let mut stream = world.stream(&format!("channel=builds:web&since={first}"), &reader(claim.clone())).await;
        let message = stream.event().await;
        assert_eq!((message.kind.as_str(), &message.json()["n"]), ("build_failed", &json!(2)), "{claim}");
        let path = "/api/v1/channels/builds:web/events?after=0";
        let page: Value = get(&world.gateway, path, &reader(claim)).await.json().await.unwrap();
        assert_eq!(page["events"].as_array().unwrap().len(), 2);
    }
    let lasts: i64 = world.redis.run(&[b"TTL", b"crewcast:{builds:web}:log"]);
    assert!((600_000..=604_800).contains(&lasts), "seven days: {lasts}");
}

#[tokio::test]
async fn a_stream_socket_subscribes_to_its_channels_and_resumes_them() {
    let world = World::new().await;
    let first = publish(&world.gateway, &producer(), "builds:web", json!({ "type": "build_started", "n": 1 })).await;
    let second = publish(&world.gateway, &producer(), "builds:web", json!({ "type": "build_failed", "n": 2 })).await;
    let subscription = |since: Option<&str>| {
        let mut subscription = json!({ "action": "subscribe", "channel": "builds:web" });
        if let Some(since) = since {
            subscription["since"] = json!(since);
        }
        subscription.to_string()
    };
    // After the first event, and as a new reader, which gets the retained event.
    for since in [Some(first.as_str()), None] {
        let mut socket = connect(&world.gateway.ws("/ws/stream"), Some(&reader(json!(["builds:web"])))).await;
        socket.send(&subscription(since)).await;
        assert_eq!(socket.json().await["type"], "subscribed", "{since:?}");
        let message = socket.json().await;
        assert_eq!((&message["channel"], &message["id"]), (&json!("builds:web"), &json!(second)), "{since:?}");
        assert_eq!(message["event"], json!({ "type": "build_failed", "n": 2 }));
        assert!(socket.is_quiet().await);
    }
    for claims in [json!({ "channels": ["builds:docs"] }), json!({ "crews": "*", "streams": "*" })] {
        let mut socket = connect(&world.gateway.ws("/ws/stream"), Some(&token(claims))).await;
        socket.send(&subscription(Some("0"))).await;
        let refusal = socket.json().await;
        assert_eq!((&refusal["type"], &refusal["code"]), (&json!("error"), &json!("forbidden")), "{refusal}");
        assert!(socket.is_quiet().await);
    }
}

#[tokio::test]
async fn tokens_without_the_grant_neither_read_nor_publish() {
    let world = World::new().await;
    for claims in [
        json!({}),
        json!({ "channels": ["builds:docs"] }),
        json!({ "channels": ["build:*", "graph:*"] }),
        json!({ "crews": "*", "runs": "*", "streams": "*", "sessions": "*", "publish": ["builds:*"] }),
    ] {
        for path in ["/sse?channel=builds:web", "/api/v1/channels/builds:web/events"] {
            problem(get(&world.gateway, path, &token(claims.clone())).await, 403, "forbidden").await;
        }
    }
    let body = json!({ "channel": "builds:web", "event": { "type": "x" } });
    let publishing = client().post(world.gateway.url("/api/v1/publish")).bearer_auth(reader(json!(["builds:*"])));
    problem(publishing.json(&body).send().await.unwrap(), 403, "forbidden").await;
    let unheard = get(&world.gateway, "/sse?channel=bilds:web", &reader(json!(["bilds:*"]))).await;
    problem(unheard, 400, "bad-channel").await;
}

#[tokio::test]
async fn a_new_reader_gets_the_retained_event_first_even_a_live_one() {
    let world = World::new().await;
    let channel = "builds:web";
    let (query, jwt) = ("channel=builds:web", reader(json!(["builds:*"])));
    let live = r#"{"type":"building","n":1}"#;
    world.redis.publish(channel, live.as_bytes());
    eventually("the event is retained", || async {
        let kept: Option<String> = world.redis.run(&[b"GET", b"crewcast:{builds:web}:retained"]);
        kept.as_deref() == Some(live)
    })
    .await;
    let mut stream = world.stream(query, &jwt).await;
    let message = stream.event().await;
    assert_eq!((message.data.as_str(), stream.last_id.as_str()), (live, "0"));
    let second = publish(&world.gateway, &producer(), channel, json!({ "type": "built", "n": 2 })).await;
    let message = stream.event().await;
    assert_eq!((message.json()["n"].as_u64(), &stream.last_id), (Some(2), &second));
    // Readers that resume or filter the event out do not get it again.
    let resumed = format!("{query}&since={second}");
    let mut filtered = world.stream("channel=builds:web&types=building", &jwt).await;
    filtered.opened().await;
    assert_eq!(filtered.last_id, second);
    assert!(world.stream(&resumed, &jwt).await.is_quiet().await && filtered.is_quiet().await);
    // Together with a channel without a retained event.
    let both = token(json!({ "channels": ["builds:*"], "crews": ["abc"] }));
    let mut both = world.stream("channel=builds:web&channel=graph:abc", &both).await;
    assert_eq!(both.event().await.json()["id"], second.as_str());
    assert!(both.is_quiet().await);
}

#[tokio::test]
async fn a_namespace_that_belongs_to_crews_follows_the_access_and_the_moves_of_a_crew() {
    let world = World::new().await;
    command::done(&world.redis, &["register", "crew", "abc", "--org", "acme"]).await;
    let of = |org: &str| token(json!({ "org": org, "crews": ["abc"], "publish": ["notes:*"] }));
    let path = "/sse?channel=notes:abc";
    eventually("acme may read", || async { get(&world.gateway, path, &of("acme")).await.status() == 200 }).await;
    problem(get(&world.gateway, path, &of("zeta")).await, 403, "forbidden").await;
    let claimed = token(json!({ "org": "zeta", "channels": ["notes:*", "notes:abc"] }));
    problem(get(&world.gateway, path, &claimed).await, 403, "forbidden").await;
    publish(&world.gateway, &of("acme"), "notes:abc", json!({ "type": "note", "said": "acme's" })).await;
    let mut stream = world.stream("channel=notes:abc&since=0", &of("acme")).await;
    assert_eq!(stream.event().await.json()["said"], "acme's");
    let file = world.file.path().to_str().unwrap();
    let moving = ["--config", file, "register", "crew", "abc", "--org", "zeta", "--move"];
    command::done(&world.redis, &moving).await;
    let last = stream.next().await.expect("the last message");
    assert_eq!((last.kind.as_str(), &last.json()["code"]), ("error", &json!("forbidden")));
    assert!(stream.next().await.is_none(), "the stream ends");
    let mut now = world.stream("channel=notes:abc&since=0", &of("zeta")).await;
    publish(&world.gateway, &of("zeta"), "notes:abc", json!({ "type": "note", "said": "zeta's" })).await;
    assert_eq!(now.event().await.json()["said"], "zeta's", "an event of the former owner is left");
}
