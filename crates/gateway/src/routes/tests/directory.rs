use std::sync::atomic::Ordering;

use crewcast_events::Kind;

use super::*;

const PATH: &str = "/api/v1/directory";

#[tokio::test]
async fn registers_for_the_tokens_org_and_the_first_owner_keeps_the_id() {
    let bench = Bench::new();
    let of = |org: &str| token(json!({"org": org, "publish": ["graph:*"]}));
    let entry = r#"{"kind":"crew","id":"c1"}"#;
    for _ in 0..2 {
        let answer = bench.post(PATH, &of("acme"), entry).await.ok();
        assert_eq!(answer, json!({"kind": "crew", "id": "c1", "org": "acme"}));
    }
    let refused = bench.post(PATH, &of("rival"), entry).await;
    refused.problem(409, "owned-by-another");
    assert!(!refused.text.contains("acme"), "{}", refused.text);
    let owners = bench.app.directory.owners(Kind::Crew, &["c1".to_owned()]).await.unwrap();
    assert_eq!(owners["c1"].org, "acme");
}

#[tokio::test]
async fn a_run_may_not_name_the_crew_of_another_org() {
    let bench = Bench::new();
    let of = |org: &str| token(json!({"org": org, "publish": ["run:*"]}));
    bench.post(PATH, &of("rival"), r#"{"kind":"crew","id":"theirs"}"#).await.ok();
    let run = |crew: &str| json!({"kind": "run", "id": "r1", "org": "acme", "crew": crew}).to_string();
    bench.post(PATH, &of("acme"), run("theirs")).await.problem(403, "forbidden");
    bench.post(PATH, &of("acme"), run("ours")).await.ok();
    let owners = bench.app.directory.owners(Kind::Run, &["r1".to_owned()]).await.unwrap();
    assert_eq!(owners["r1"].crew.as_deref(), Some("ours"));
    let crew_of_crew = r#"{"kind":"crew","id":"c","crew":"d"}"#;
    bench.post(PATH, &of("acme"), crew_of_crew).await.problem(400, "malformed");
}

#[tokio::test]
async fn readers_and_tokens_without_the_org_cannot_register() {
    let bench = Bench::new();
    let entry = r#"{"kind":"stream","id":"s1"}"#;
    let other = r#"{"kind":"stream","id":"s1","org":"rival"}"#;
    bench.post(PATH, &producer(), other).await.problem(403, "forbidden");
    let homeless = token(json!({"publish": ["graph:*"]}));
    bench.post(PATH, &homeless, entry).await.problem(403, "forbidden");
    let reader = token(json!({"org": "acme", "streams": "*"}));
    bench.post(PATH, &reader, entry).await.problem(403, "forbidden");
    bench.post(PATH, "", entry).await.problem(401, "unauthorized");
    assert!(bench.app.directory.owners(Kind::Stream, &["s1".to_owned()]).await.unwrap().is_empty());
}

#[tokio::test]
async fn errors_of_malformed_entries_name_the_field() {
    let bench = Bench::new();
    for (body, hint) in [
        (r#"{"kind":"team","id":"c"}"#, "unknown variant `team`"),
        (r#"{"kind":"crew"}"#, "missing field `id`"),
        (r#"{"kind":"crew","id":"c","ord":"acme"}"#, "unknown field `ord`"),
        (r#"{"kind":"crew","id":"a b"}"#, "[A-Za-z0-9._-]"),
        (r#"{"kind":"run","id":"r","crew":""}"#, "[A-Za-z0-9._-]"),
        ("", "line 1"),
        ("{} {}", "line 1"),
    ] {
        let problem = bench.post(PATH, &producer(), body).await.problem(400, "malformed");
        assert!(problem["detail"].as_str().unwrap().contains(hint), "{problem}");
    }
    bench.broker.calls_left.store(0, Ordering::Relaxed);
    bench.post(PATH, &producer(), r#"{"kind":"crew","id":"c"}"#).await.problem(503, "unavailable");
}
