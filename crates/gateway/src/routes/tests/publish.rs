use std::sync::atomic::Ordering;

use super::*;

const PATH: &str = "/api/v1/publish";

fn line(channel: &str, event: &str) -> String {
    format!(r#"{{"channel":"{channel}","event":{event}}}"#)
}

async fn history(bench: &Bench, channel: &str) -> Value {
    bench.get(&format!("/api/v1/channels/{channel}/events?limit=1000"), &producer()).await.ok()
}

#[tokio::test]
async fn the_log_holds_the_producers_bytes_with_the_id_inserted() {
    let bench = Bench::new();
    let events = [
        r#"{"type":"x"}"#.to_owned(),
        "{ \"n\" : 1.50,\t\"type\":\"tool\\u005fstart\" , \"z\":[1e3,  -0.0, 12345678901234567890],\"a\":null }"
            .to_owned(),
        r#"{"type":"x","s":"\ud83d\ude00 😀 é \" \\ \/","dup":1,"dup":2}"#.to_owned(),
        format!(r#"{{"type":"big","data":"{}"}}"#, "x".repeat(100_000)),
    ];
    for event in &events {
        let ids = bench.post(PATH, &producer(), line("graph:a", event)).await.ok();
        let id = ids["ids"][0].as_str().unwrap().to_owned();
        let raw = bench.get("/api/v1/channels/graph:a/events?after=0", &producer()).await.text;
        let expected = format!(r#"{{"id":"{id}",{}"#, &event[1..]);
        assert!(raw.contains(&expected), "{expected} is not in {raw}");
    }
    assert_eq!(history(&bench, "graph:a").await["events"].as_array().unwrap().len(), events.len());
}

#[tokio::test]
async fn a_repeated_key_returns_the_same_answer_and_publishes_nothing() {
    let bench = Bench::new();
    let keyed = |key: &str| json!({"channel": "graph:a", "event": {"type": "x"}, "idempotency_key": key});
    let first = bench.publish(&producer(), &keyed("k")).await;
    assert_eq!(bench.publish(&producer(), &keyed("k")).await, first);
    assert_ne!(bench.publish(&producer(), &keyed("k2")).await, first);
    // The key of another `sub` is a different key.
    let other = token(json!({"sub": "u2", "org": "acme", "publish": ["graph:a"]}));
    assert_ne!(bench.publish(&other, &keyed("k")).await, first);
    assert_eq!(history(&bench, "graph:a").await["events"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_thousand_lines_keep_their_order_and_need_few_appends() {
    let bench = Bench::new();
    let body: String = (0..1000).map(|n| line("graph:a", &format!(r#"{{"type":"x","n":{n}}}"#)) + "\n").collect();
    let answer = bench.post(PATH, &producer(), body).await.ok();
    let ids: Vec<&str> = answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let page = history(&bench, "graph:a").await;
    let logged = page["events"].as_array().unwrap();
    assert_eq!((ids.len(), logged.len()), (1000, 1000));
    for (n, (id, event)) in ids.iter().zip(logged).enumerate() {
        assert_eq!((&event["id"], &event["n"]), (&json!(id), &json!(n)));
        assert!(id.starts_with(&format!("{}-", n + 1)));
    }
    assert_eq!(*bench.broker.appends.lock(), [128, 128, 128, 128, 128, 128, 128, 104]);
}

#[tokio::test]
async fn lines_of_several_kinds_are_answered_in_order() {
    let bench = Bench::new();
    let body = [
        line("graph:a", r#"{"type":"1"}"#),
        line("graph:b", r#"{"type":"1"}"#),
        r#"{"channel":"graph:a","event":{"type":"2","id":"mine"},"live":true}"#.to_owned(),
        r#"{"channel":"graph:a","event":{"type":"3"},"idempotency_key":"k","state":{"key":"s","value":{"n":1.50}}}"#
            .to_owned(),
        line("graph:a", r#"{"type":"4"}"#),
        r#"{"channel":"graph:a","event":{"type":"3"},"idempotency_key":"k"}"#.to_owned(),
    ]
    .join("\n");
    let request = request("POST", PATH, &producer()).header("content-type", "application/x-ndjson; charset=utf-8");
    let answer = bench.call(request.body(body.into()).unwrap()).await.ok();
    let ids = answer["ids"].as_array().unwrap();
    let offsets: Vec<Option<&str>> = ids.iter().map(|id| id.as_str()?.split('-').next()).collect();
    assert_eq!(offsets, [Some("1"), Some("1"), None, Some("2"), Some("3"), Some("2")]);
    assert_eq!(ids[3], ids[5]);
}

#[tokio::test]
async fn one_invalid_line_publishes_nothing_of_the_body() {
    let bench = Bench::new();
    let good = line("graph:a", r#"{"type":"x"}"#);
    for (bad, status, kind) in [
        ("{\"channel\":".to_owned(), 400, "malformed"),
        (line("graph:a", "7"), 400, "bad-event"),
        (line("graph:a", r#"{"type":"x","id":1}"#), 400, "bad-event"),
        (line("graph a", r#"{"type":"x"}"#), 400, "bad-channel"),
        (line("nowhere:a", r#"{"type":"x"}"#), 400, "bad-channel"),
        (line("hub:acme", r#"{"type":"x"}"#), 403, "forbidden"),
    ] {
        let body = format!("{good}\n\n{bad}\n{good}");
        let problem = bench.post(PATH, &producer(), body).await.problem(status, kind);
        assert_eq!(problem["line"], 3, "{problem}");
    }
    assert_eq!(history(&bench, "graph:a").await["head"], Value::Null);
}

#[tokio::test]
async fn a_broker_failure_publishes_a_part_and_reports_which() {
    let bench = Bench::new();
    // Two calls register the crews, two publish.
    bench.broker.calls_left.store(4, Ordering::Relaxed);
    let body = ["graph:a", "graph:a", "graph:b", "graph:a"].map(|channel| line(channel, r#"{"type":"x"}"#)).join("\n");
    let answer = bench.post(PATH, &producer(), body).await;
    let problem = answer.problem(503, "unavailable");
    assert_eq!(answer.headers["retry-after"], problem["retry_after"].to_string());
    assert_eq!(problem["accepted"], 3);
    let ids: Vec<&str> = problem["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(ids[1].starts_with("2-") && ids[2].starts_with("1-") && ids.len() == 3, "{ids:?}");
    assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    bench.broker.calls_left.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(history(&bench, "graph:a").await["head"], ids[1]);
}

#[tokio::test]
async fn events_and_bodies_have_size_limits() {
    let bench = Bench::with(|config| config.limits.message.0 = 100);
    let sized = |n: usize| line("graph:a", &format!(r#"{{"type":"x","d":"{}"}}"#, "x".repeat(n - 19)));
    assert!(sized(100).contains(&"x".repeat(81)));
    bench.post(PATH, &producer(), sized(100)).await.ok();
    bench.post(PATH, &producer(), sized(101)).await.problem(413, "too-large");
    let too_long = vec![b' '; super::super::body::MAX_BODY + 1];
    bench.post(PATH, &producer(), too_long).await.problem(413, "too-large");
}

#[tokio::test]
async fn grants_and_orgs_are_enforced() {
    let bench = Bench::new();
    let one = token(json!({"org": "acme", "publish": ["graph:a"]}));
    bench.post(PATH, &one, line("graph:a", r#"{"type":"x"}"#)).await.ok();
    bench.post(PATH, &one, line("graph:b", r#"{"type":"x"}"#)).await.problem(403, "forbidden");
    let reader = token(json!({"org": "acme", "crews": ["a"]}));
    bench.post(PATH, &reader, line("graph:a", r#"{"type":"x"}"#)).await.problem(403, "forbidden");
    // `graph:*` covers every channel of the namespace, except those that another org owns.
    let rival = token(json!({"org": "rival", "publish": ["graph:*"]}));
    bench.post("/api/v1/directory", &rival, r#"{"kind":"crew","id":"theirs"}"#).await.ok();
    bench.post(PATH, &producer(), line("graph:theirs", r#"{"type":"x"}"#)).await.problem(403, "forbidden");
    bench.post(PATH, &rival, line("graph:theirs", r#"{"type":"x"}"#)).await.ok();
}

#[tokio::test]
async fn the_first_org_that_publishes_an_id_owns_it() {
    let of = |org: &str| token(json!({"org": org, "publish": ["graph:*", "mission:*", "run:*", "hub:*"]}));
    let (first, second) = (of("first"), of("second"));
    let logged = |channel: &str| line(channel, r#"{"type":"x"}"#);
    let live = |channel: &str| json!({"channel": channel, "event": {"type": "x"}, "live": true}).to_string();
    for publish in [&logged as &dyn Fn(&str) -> String, &live] {
        let bench = Bench::new();
        bench.post(PATH, &first, publish("graph:fresh")).await.ok();
        let body = format!("{}\n{}", publish("run:mine"), publish("mission:fresh"));
        let problem = bench.post(PATH, &second, body).await.problem(403, "forbidden");
        assert_eq!(problem["line"], 2, "{problem}");
        let owners = bench.app.directory.owners(crewcast_events::Kind::Crew, &["fresh".to_owned()]).await.unwrap();
        assert_eq!(owners["fresh"].org, "first");
    }
    // At the same moment: one of them wins.
    let bench = Bench::new();
    let body = line("graph:raced", r#"{"type":"x"}"#);
    let (a, b) = tokio::join!(bench.post(PATH, &first, body.clone()), bench.post(PATH, &second, body));
    let mut both = [a.status.as_u16(), b.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [200, 403]);
    // Without an org nothing is registered.
    let nobody = token(json!({"publish": ["graph:*"]}));
    bench.post(PATH, &nobody, line("graph:open", r#"{"type":"x"}"#)).await.ok();
    let owners = bench.app.directory.owners(crewcast_events::Kind::Crew, &["open".to_owned()]).await.unwrap();
    assert!(owners.is_empty());
}

#[tokio::test]
async fn each_id_of_a_body_is_registered_once() {
    let bench = Bench::new();
    // One registration for the crew of both channels, and four appends.
    bench.broker.calls_left.store(5, Ordering::Relaxed);
    let body = ["graph:a", "mission:a", "graph:a", "mission:a"].map(|name| line(name, r#"{"type":"x"}"#)).join("\n");
    bench.post(PATH, &producer(), body).await.ok();
}
