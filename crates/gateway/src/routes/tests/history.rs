use std::sync::atomic::Ordering;

use super::*;

/// A replica whose channel `graph:a` has had `n` events, of which the log still holds the last `kept`.
async fn with_log(n: usize, kept: u32) -> (Bench, Vec<String>) {
    let bench = Bench::with(|config| config.namespaces.0.get_mut("graph").unwrap().log.length = kept);
    let mut ids = Vec::new();
    for n in 1..=n {
        ids.push(bench.publish(&producer(), &json!({"channel": "graph:a", "event": {"type": "x", "n": n}})).await);
    }
    (bench, ids)
}

async fn page(bench: &Bench, query: &str) -> Value {
    bench.get(&format!("/api/v1/channels/graph:a/events{query}"), &producer()).await.ok()
}

fn ids_of(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_lead_from_the_first_event_to_the_head() {
    let (bench, ids) = with_log(7, 100).await;
    let (mut seen, mut after) = (Vec::new(), "0".to_owned());
    for expected in [3, 3, 1] {
        let page = page(&bench, &format!("?after={after}&limit=3")).await;
        assert_eq!(page["events"].as_array().unwrap().len(), expected);
        assert_eq!((&page["channel"], &page["reset"]), (&json!("graph:a"), &Value::Null));
        assert_eq!((&page["head"], &page["more"]), (&json!(ids[6]), &json!(expected == 3)));
        seen.extend(ids_of(&page).iter().map(|id| (*id).to_owned()));
        after = page["position"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, ids);
    // At the head: no events, and the position does not change.
    let last = page(&bench, &format!("?after={after}")).await;
    assert_eq!((&last["position"], &last["more"]), (&json!(ids[6]), &json!(false)));
    assert!(ids_of(&last).is_empty());
}

#[tokio::test]
async fn a_channel_without_events_is_empty() {
    let bench = Bench::new();
    for query in ["", "?after=0"] {
        let page = page(&bench, query).await;
        let expected =
            json!({"channel": "graph:a", "events": [], "position": null, "head": null, "reset": null, "more": false});
        assert_eq!(page, expected);
    }
}

#[tokio::test]
async fn a_position_that_cannot_be_resumed_is_reported() {
    let (bench, ids) = with_log(6, 3).await;
    let kept: Vec<&str> = ids[3..].iter().map(String::as_str).collect();
    let forged = "5-zzzzzzzzzzzz";
    for (after, reason) in [
        (Some(ids[0].as_str()), Some("trimmed")),
        (Some("0"), Some("trimmed")),
        (Some(forged), Some("unknown_id")),
        (Some("99-000000aaaaaa"), Some("unknown_id")),
        (Some("nonsense"), Some("unknown_id")),
        // The log's first event directly follows the last one that was dropped.
        (Some(ids[2].as_str()), None),
        // A reader without a position misses nothing.
        (None, None),
    ] {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let page = page(&bench, &query).await;
        assert_eq!(ids_of(&page), kept, "{after:?}");
        let reset = reason.map_or(Value::Null, |reason| json!({"reason": reason, "from": kept[0]}));
        assert_eq!(page["reset"], reset, "{after:?}");
        assert_eq!(page["position"], ids[5]);
    }
}

#[tokio::test]
async fn only_granted_and_configured_channels_are_readable() {
    let bench = Bench::new();
    let reader = token(json!({"org": "acme", "crews": ["a"]}));
    let path = |channel: &str| format!("/api/v1/channels/{channel}/events");
    bench.get(&path("graph:a"), &reader).await.ok();
    bench.get(&path("graph:b"), &reader).await.problem(403, "forbidden");
    bench.get(&path("graph:a"), "").await.problem(401, "unauthorized");
    for bad in ["graph", "graph:a:b", "nowhere:a", "graph:%20", "graph:%ff", "%00"] {
        bench.get(&path(bad), &reader).await.problem(400, "bad-channel");
    }
    for bad in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1&limit=2", "limit=99999999999999999999"] {
        bench.get(&format!("{}?{bad}", path("graph:a")), &reader).await.problem(400, "malformed");
    }
}

#[tokio::test]
async fn an_org_cannot_read_the_channels_of_another() {
    let bench = Bench::new();
    let of = |org: &str| token(json!({"org": org, "crews": ["a"], "publish": ["graph:*"]}));
    bench.post("/api/v1/directory", &of("acme"), r#"{"kind":"crew","id":"a"}"#).await.ok();
    bench.publish(&of("acme"), &json!({"channel": "graph:a", "event": {"type": "x"}})).await;
    bench.get("/api/v1/channels/graph:a/events", &of("acme")).await.ok();
    let refused = bench.get("/api/v1/channels/graph:a/events", &of("rival")).await;
    refused.problem(403, "forbidden");
    assert!(!refused.text.contains("acme"), "{}", refused.text);
}

#[tokio::test]
async fn a_broker_that_is_down_is_503() {
    let bench = Bench::new();
    bench.broker.calls_left.store(0, Ordering::Relaxed);
    let answer = bench.get("/api/v1/channels/graph:a/events", &producer()).await;
    answer.problem(503, "unavailable");
    assert!(answer.headers.contains_key("retry-after") && !answer.text.contains("hunter2"), "{answer:?}");
}
