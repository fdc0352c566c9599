//! Event streams over plain HTTP, read as by an EventSource.

use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;

use crate::support::{
    eventually,
    gateway::{self, Gateway, client},
    http::{get, problem, publish, ticket},
    redis::RedisServer,
    seed,
    sse::{EventStream, Message},
    token::{now, token},
};

/// A token that may publish and read the channels of these tests.
fn both() -> String {
    token(json!({ "crews": ["a", "b"], "runs": ["r"], "publish": ["graph:*", "run:*"] }))
}

fn stream(gateway: &Gateway, query: &str, last_id: &str) -> RequestBuilder {
    let request = client().get(gateway.url(&format!("/sse?{query}"))).bearer_auth(both());
    if last_id.is_empty() { request } else { request.header("last-event-id", last_id) }
}

async fn open(gateway: &Gateway, query: &str, last_id: &str) -> EventStream {
    EventStream::open(stream(gateway, query, last_id)).await
}

async fn numbered(gateway: &Gateway, channel: &str, n: u32) -> String {
    publish(gateway, &both(), channel, json!({ "type": "x", "n": n })).await
}

fn number(message: &Message) -> u64 {
    message.json()["n"].as_u64().unwrap()
}

#[tokio::test]
async fn logged_events_have_id_type_and_data_and_error_is_renamed() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut stream = open(&gateway, "channel=run:r", "").await;
    assert_eq!(stream.response.headers()["cache-control"], "no-store");
    assert_eq!(stream.response.headers()["x-accel-buffering"], "no");
    stream.opened().await;
    for kind in ["boot", "error", "done"] {
        let id = publish(&gateway, &both(), "run:r", json!({ "type": kind, "run_id": "r" })).await;
        let message = stream.event().await;
        assert_eq!(message.kind, if kind == "error" { "agent_error" } else { kind });
        assert!(message.has_id);
        assert_eq!(stream.last_id, id);
        // Exactly the bytes of the log.
        let log: Vec<String> = redis.run(&[b"LRANGE", b"crewcast:{run:r}:log", b"-1", b"-1"]);
        assert_eq!(message.data, log[0]);
        assert_eq!(message.json()["type"], kind);
    }
    // Unlike the socket of a run, the stream does not end, because EventSource would reconnect forever.
    assert!(stream.is_quiet().await);
    // Event streams are never compressed, whatever their bytes look like.
    let bytes = |labels: &'static str| gateway.metric("crewcast_delivery_bytes_total", labels);
    assert!(bytes(r#"dialect="sse",encoding="plain""#).await > 0.0);
    assert_eq!(bytes(r#"dialect="sse",encoding="deflate""#).await, 0.0);
}

#[tokio::test]
async fn live_events_have_no_id_and_keep_the_last_event_id() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut stream = open(&gateway, "channel=graph:a", "").await;
    stream.opened().await;
    let id = numbered(&gateway, "graph:a", 1).await;
    assert_eq!(number(&stream.event().await), 1);
    let live = "{ \"type\":\"error\",\n\t\"n\":1.50,\"e\":\"\\u00e9🙂\"}";
    assert_eq!(redis.publish("graph:a", live.as_bytes()), 1);
    let message = stream.event().await;
    assert_eq!((message.kind.as_str(), message.data.as_str(), message.has_id), ("agent_error", live, false));
    assert_eq!(stream.last_id, id);
}

#[tokio::test]
async fn a_stream_resumes_by_its_last_event_id_without_loss_or_repeat() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let mut seen = Vec::new();
    let mut last_id = String::new();
    let mut sent = 0;
    // Cut repeatedly, in the middle of the data.
    for round in 0..8 {
        let mut stream = open(&gateway, "channel=graph:a", &last_id).await;
        if round == 0 {
            stream.opened().await;
        }
        for _ in 0..5 {
            sent += 1;
            numbered(&gateway, "graph:a", sent).await;
        }
        for _ in 0..(round % 5) {
            seen.push(number(&stream.event().await));
        }
        // A browser knows the id of the last event that it dispatched.
        if let Some(last) = seen.last() {
            last_id = id_of(&redis, "graph:a", *last);
        } else {
            last_id = stream.last_id.clone();
        }
    }
    let mut stream = open(&gateway, "channel=graph:a", &last_id).await;
    while seen.len() < sent as usize {
        seen.push(number(&stream.event().await));
    }
    assert!(stream.is_quiet().await);
    assert_eq!(seen, (1..=u64::from(sent)).collect::<Vec<_>>());
}

/// The id in the log of the event with this `n`.
fn id_of(redis: &RedisServer, channel: &str, n: u64) -> String {
    let key = format!("crewcast:{{{channel}}}:log");
    let log: Vec<String> = redis.run(&[b"LRANGE", key.as_bytes(), b"0", b"-1"]);
    let events = log.iter().map(|raw| serde_json::from_str::<serde_json::Value>(raw).unwrap());
    events.filter(|event| event["n"] == n).map(|event| event["id"].as_str().unwrap().to_owned()).next().unwrap()
}

#[tokio::test]
async fn an_unknown_or_trimmed_id_is_answered_with_a_reset() {
    let gateway = gateway::memory(&[("CREWCAST_NAMESPACES__GRAPH__LOG__LENGTH", "3")]).await;
    let first = numbered(&gateway, "graph:a", 1).await;
    for n in 2..=6 {
        numbered(&gateway, "graph:a", n).await;
    }
    for (last_id, reason) in [(first.as_str(), "trimmed"), ("6-abcdefghijkl", "unknown_id"), ("rubbish", "unknown_id")]
    {
        let mut stream = open(&gateway, "channel=graph:a", last_id).await;
        let reset = stream.next().await.unwrap();
        assert_eq!((reset.kind.as_str(), reset.has_id), ("reset", false), "{last_id}");
        let text = reset.json();
        assert_eq!((text["source"].as_str(), text["reason"].as_str()), (Some("gateway"), Some(reason)), "{last_id}");
        assert_eq!(text["channel"], "graph:a");
        for n in 4..=6 {
            let event = stream.event().await;
            assert_eq!(number(&event), n, "{last_id}");
            assert!(n > 4 || text["from"] == event.json()["id"], "{text}");
        }
    }
}

#[tokio::test]
async fn since_in_the_url_applies_until_the_browser_sends_last_event_id() {
    let gateway = gateway::memory(&[]).await;
    let first = numbered(&gateway, "graph:a", 1).await;
    numbered(&gateway, "graph:a", 2).await;
    let mut whole = open(&gateway, "channel=graph:a&since=0", "").await;
    assert_eq!(number(&whole.event().await), 1);
    let mut rest = open(&gateway, "channel=graph:a&since=0", &first).await;
    assert_eq!(number(&rest.event().await), 2);
}

#[tokio::test]
async fn two_channels_share_one_id_that_resumes_both() {
    let gateway = gateway::memory(&[]).await;
    let query = "channel=graph:a&channel=run:r";
    // One channel has a log, the other has never had an event.
    numbered(&gateway, "graph:a", 0).await;
    let mut stream = open(&gateway, query, "").await;
    eventually_both(&mut stream).await;
    let a = numbered(&gateway, "graph:a", 1).await;
    assert_eq!(number(&stream.event().await), 1);
    assert!(stream.last_id.contains(&format!("graph:a={a}")), "{}", stream.last_id);
    let last_id = stream.last_id.clone();
    drop(stream);
    // While the client is away, both channels get events, the second one its first.
    numbered(&gateway, "graph:a", 2).await;
    let r = numbered(&gateway, "run:r", 3).await;
    numbered(&gateway, "run:r", 4).await;
    let mut stream = open(&gateway, query, &last_id).await;
    let mut came = Vec::new();
    for _ in 0..3 {
        came.push(number(&stream.event().await));
    }
    came.sort_unstable();
    assert_eq!(came, [2, 3, 4]);
    assert!(stream.is_quiet().await, "an event came twice");
    // A position in the middle of one channel.
    let mut stream = open(&gateway, query, &format!("graph:a={a},run:r={r}")).await;
    let mut came = [number(&stream.event().await), number(&stream.event().await)];
    came.sort_unstable();
    assert_eq!(came, [2, 4]);
}

#[tokio::test]
async fn three_channels_cut_at_any_byte_lose_and_duplicate_nothing() {
    let mut random = fastrand::Rng::with_seed(seed());
    let redis = RedisServer::start();
    let replicas = [gateway::on(&redis, &[]).await, gateway::on(&redis, &[]).await];
    let channels = ["graph:a", "graph:b", "run:r"];
    let query = "channel=graph:a&channel=graph:b&channel=run:r&since=graph:a=0,graph:b=0,run:r=0";
    let mut sent = [0; 3];
    let mut seen: [Vec<u64>; 3] = Default::default();
    let mut last_id = String::new();
    let take = |messages: Vec<Message>, seen: &mut [Vec<u64>; 3]| {
        for message in messages {
            let event = message.json();
            assert_ne!(event["source"], "gateway", "{event}");
            let of = channels.iter().position(|channel| event["of"] == *channel).unwrap();
            seen[of].push(event["n"].as_u64().unwrap());
        }
    };
    for round in 0..20 {
        let cut = open(&replicas[round % 2], query, &last_id).await.cut_after(random.usize(1..900));
        let publishing = async {
            for _ in 0..9 {
                let of = random.usize(..3);
                sent[of] += 1;
                let event = json!({ "type": "x", "n": sent[of], "of": channels[of] });
                publish(&replicas[(round + 1) % 2], &both(), channels[of], event).await;
            }
        };
        let ((messages, id), ()) = tokio::join!(cut, publishing);
        take(messages, &mut seen);
        if !id.is_empty() {
            last_id = id;
        }
    }
    let mut rest = open(&replicas[0], query, &last_id).await;
    while (0..3).any(|of| seen[of].len() < sent[of] as usize) {
        let message = rest.event().await;
        take(vec![message], &mut seen);
    }
    assert!(rest.is_quiet().await);
    for of in 0..3 {
        assert_eq!(seen[of], (1..=sent[of]).collect::<Vec<u64>>(), "{}", channels[of]);
    }
}

/// Reads until the id names both channels, which means that both are open.
async fn eventually_both(stream: &mut EventStream) {
    while !(stream.last_id.contains("graph:a=") && stream.last_id.contains("run:r=")) {
        assert!(stream.read().await);
    }
}

/// A channel's first event is not lost if it comes while the client is away.
#[tokio::test]
async fn a_stream_cut_before_a_channels_first_event_gets_it_after_reconnecting() {
    let gateway = gateway::memory(&[]).await;
    let mut stream = open(&gateway, "channel=graph:b", "").await;
    stream.opened().await;
    let last_id = stream.last_id.clone();
    drop(stream);
    numbered(&gateway, "graph:b", 1).await;
    let mut stream = open(&gateway, "channel=graph:b", &last_id).await;
    assert_eq!(number(&stream.event().await), 1);
    assert!(stream.is_quiet().await);
}

#[tokio::test]
async fn types_are_filtered() {
    let gateway = gateway::memory(&[]).await;
    for (kind, n) in [("x", 1), ("y", 2), ("z", 3), ("x", 4)] {
        publish(&gateway, &both(), "graph:a", json!({ "type": kind, "n": n })).await;
    }
    let mut stream = open(&gateway, "channel=graph:a&since=0&types=y,x", "").await;
    let came = [number(&stream.event().await), number(&stream.event().await), number(&stream.event().await)];
    assert_eq!(came, [1, 2, 4]);
}

#[tokio::test]
async fn refusals_come_before_the_stream_starts() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__SUBSCRIPTIONS", "3")]).await;
    let refused = |query: &'static str| stream(&gateway, query, "").send();
    let body = problem(refused("channel=graph:a&channel=graph:xyz").await.unwrap(), 403, "forbidden").await;
    assert!(body["detail"].as_str().unwrap().contains("graph:xyz"), "{body}");
    problem(refused("channel=hub:globex").await.unwrap(), 403, "forbidden").await;
    problem(refused("channel=nonsense").await.unwrap(), 400, "bad-channel").await;
    problem(refused("channel=graph:a%20b").await.unwrap(), 400, "bad-channel").await;
    problem(refused("channel=unheardof:a").await.unwrap(), 400, "bad-channel").await;
    problem(refused("types=x").await.unwrap(), 400, "malformed").await;
    let many = "channel=graph:a&channel=graph:b&channel=run:r&channel=run:s";
    problem(refused(many).await.unwrap(), 400, "malformed").await;
    for jwt in ["rubbish".to_owned(), token(json!({ "exp": now() - 1 }))] {
        let answer = get(&gateway, "/sse?channel=graph:a", &jwt).await;
        assert_eq!(answer.headers()["www-authenticate"], r#"Bearer error="invalid_token""#);
        problem(answer, 401, "unauthorized").await;
    }
    let bare = client().get(gateway.url("/sse?channel=graph:a")).send().await.unwrap();
    assert_eq!(bare.headers()["www-authenticate"], "Bearer");
    problem(bare, 401, "unauthorized").await;
}

#[tokio::test]
async fn too_many_streams_of_a_user_are_refused_with_429() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__PER_USER", "1")]).await;
    let open = open(&gateway, "channel=graph:a", "").await;
    let answer = stream(&gateway, "channel=graph:a", "").send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, 429, "too-many").await;
    drop(open);
    eventually("the permit is free again", || async {
        stream(&gateway, "channel=graph:a", "").send().await.unwrap().status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn a_ticket_opens_one_stream() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    numbered(&gateway, "graph:a", 1).await;
    let ticket = ticket(&gateway, &both()).await;
    let url = gateway.url(&format!("/sse?channel=graph:a&since=0&ticket={ticket}"));
    let mut stream = EventStream::open(client().get(&url)).await;
    assert_eq!(number(&stream.event().await), 1);
    let body = problem(client().get(&url).send().await.unwrap(), 401, "unauthorized").await;
    assert!(body["detail"].as_str().unwrap().contains("ticket") && !body.to_string().contains(&ticket), "{body}");
    assert!(!gateway.log().join("\n").contains(&ticket));
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_says_why() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["a"], "exp": now() + 2 }));
    let mut stream = EventStream::open(client().get(gateway.url("/sse?channel=graph:a")).bearer_auth(&jwt)).await;
    let last = stream.next().await.expect("a reason");
    assert_eq!(last.kind, "error");
    let text = last.json();
    assert_eq!((text["source"].as_str(), text["code"].as_str()), (Some("gateway"), Some("unauthorized")), "{text}");
    assert_eq!(text["message"], "token expired");
    assert!(stream.next().await.is_none(), "the stream ends");
}

#[tokio::test]
async fn a_draining_replica_ends_open_streams_and_refuses_new_ones() {
    let settings = [("CREWCAST_DRAIN__SPREAD", "1s"), ("CREWCAST_DRAIN__GRACE", "10s")];
    let mut gateway = gateway::memory(&settings).await;
    let mut stream = open(&gateway, "channel=graph:a", "").await;
    stream.opened().await;
    // The replica exits when its last connection has left. Of many connections, some leave late.
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(open(&gateway, "channel=graph:a", "").await);
    }
    gateway.terminate();
    eventually("draining", || async { !gateway.is_ready().await }).await;
    let answer = self::stream(&gateway, "channel=graph:a", "").send().await.unwrap();
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, 503, "unavailable").await;
    assert_eq!(stream.next().await.expect("the last message").kind, "reconnect");
    assert!(stream.next().await.is_none());
    drop((stream, others));
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_and_moves_its_id_past_what_the_filter_hides() {
    let gateway = gateway::memory(&[]).await;
    let mut stream = open(&gateway, "channel=graph:a&types=seen", "").await;
    stream.opened().await;
    let hidden = publish(&gateway, &both(), "graph:a", json!({ "type": "hidden" })).await;
    assert_eq!(stream.comments, ["crewcast"]);
    while stream.last_id != hidden {
        assert!(stream.read().await);
    }
    assert_eq!(stream.comments, ["crewcast", "ping"]);
}
