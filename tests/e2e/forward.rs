//! `crewcast forward` with webhooks that fail, hang, are slow and refuse, and with every process killed in turn.

use std::{path::Path, time::Duration};

use crewcast_events::EventId;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::process::{Child, Command};

use crate::support::{
    PATIENCE,
    command::{crewcast, ended},
    eventually,
    gateway::{self, Gateway},
    http::publish,
    redis::{RedisServer, free_port},
    token::token,
    webhook::{Answer, Post, Webhook},
};

const CHANNEL: &str = "stream:w";
const SECRET: &str = "the webhook's and ours";

async fn publish_steps(gateway: &Gateway, steps: std::ops::Range<u64>) -> Vec<String> {
    let publisher = token(json!({ "org": null, "publish": [CHANNEL] }));
    let mut ids = Vec::new();
    for n in steps {
        ids.push(publish(gateway, &publisher, CHANNEL, json!({ "type": "node_executed", "n": n })).await);
    }
    ids
}

/// Runs `crewcast forward` with its files in `folder`.
fn forward(gateway: &str, webhook: &Webhook, folder: &Path, more: &[&str]) -> Command {
    let (secret, position) = (folder.join("secret"), folder.join("position"));
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let to = format!("{}?key=of-the-url", webhook.url);
    let (secret, position) = (secret.to_str().unwrap(), position.to_str().unwrap());
    let all = ["forward", "--channel", CHANNEL, "--to", &to, "--gateway", gateway, "--secret-file", secret];
    let mut command = crewcast(&[&all[..], &["--position-file", position], more].concat());
    command.env("CREWCAST_TOKEN", token(json!({ "streams": ["w"] })));
    command
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
}

async fn kill(mut child: Child) {
    child.kill().await.unwrap();
}

fn position(folder: &Path) -> String {
    let held: Value = serde_json::from_slice(&std::fs::read(folder.join("position")).unwrap()).unwrap();
    assert_eq!(held["channel"], CHANNEL);
    held["id"].as_str().unwrap().to_owned()
}

fn ids(posts: &[Post]) -> Vec<&str> {
    posts.iter().map(Post::id).collect()
}

/// Checks a signature as the documentation describes.
fn assert_signed(post: &Post) {
    let signature = &post.headers["x-crewcast-signature"];
    let (time, v1) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{time}.{}", post.body).as_bytes());
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(v1, expected);
    assert!(crate::support::token::now().abs_diff(time.parse().unwrap()) < 60, "{time}");
}

#[tokio::test]
async fn each_event_is_posted_in_order_until_it_is_accepted() {
    const WORDS: [Answer; 9] = [
        Answer::Status(500),
        Answer::Status(200),
        Answer::Later(429, 2),
        Answer::Slow(Duration::from_millis(100)),
        Answer::Hang,
        Answer::Status(201),
        Answer::Cut,
        Answer::Status(408),
        Answer::Status(204),
    ];
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|n| WORDS.get(n).copied().unwrap_or(Answer::Status(204))).await;
    let folder = tempfile::tempdir().unwrap();
    let published = publish_steps(&gateway, 0..6).await;
    let child = forward(&gateway.url(""), &webhook, folder.path(), &["--timeout", "1s"]).spawn().unwrap();
    let accepted = webhook.until_accepted(6).await;
    assert_eq!(ids(&accepted), published, "each once and in order");
    for (n, post) in accepted.iter().enumerate() {
        assert_eq!(post.body, format!(r#"{{"id":"{}","n":{n},"type":"node_executed"}}"#, published[n]));
        let header = |name: &str| post.headers[name].as_str();
        assert_eq!(
            (header("x-stream-id"), header("x-crewcast-channel"), header("content-type")),
            ("w", CHANNEL, "application/json")
        );
    }
    let posts = webhook.posts();
    posts.iter().for_each(assert_signed);
    assert_eq!(posts[2].id(), posts[3].id());
    assert!(posts[3].at - posts[2].at >= Duration::from_secs(2), "Retry-After");
    eventually("the position is stored", || async { position(folder.path()) == published[5] }).await;
    signal(&child, "TERM");
    let said = ended(child).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    for told in ["HTTP 500", "HTTP 429", "in time", "broke off", "6 posted"] {
        assert!(said.err.contains(told), "{told}: {}", said.err);
    }
    assert!(!said.err.contains("of-the-url") && !said.err.contains(SECRET), "{}", said.err);
}

#[tokio::test]
async fn kill_9_loses_nothing_and_repeats_only_what_was_in_flight() {
    const KILLS: usize = 4;
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|_| Answer::Slow(Duration::from_millis(2))).await;
    let folder = tempfile::tempdir().unwrap();
    let published = publish_steps(&gateway, 0..200).await;
    let start = || forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    for n in 1..=KILLS {
        let child = start();
        webhook.until_accepted(n * 30).await;
        kill(child).await;
    }
    let _last = start();
    eventually("the last event is there", || async {
        webhook.accepted().last().is_some_and(|post| post.id() == published[199])
    })
    .await;
    let accepted = webhook.accepted();
    let mut once = ids(&accepted);
    once.dedup();
    assert_eq!(once, published, "in order, with repeats directly after the original");
    assert!(
        accepted.len() - once.len() <= KILLS,
        "more than one repeat for each kill: {}",
        accepted.len() - once.len()
    );
}

#[tokio::test]
async fn a_killed_gateway_loses_nothing_and_repeats_nothing() {
    let redis = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [("CREWCAST_LISTEN", address.as_str())];
    let mut gateway = gateway::on(&redis, &settings).await;
    let other = gateway::on(&redis, &[]).await;
    let webhook = Webhook::start(|_| Answer::Status(204)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut published = publish_steps(&other, 0..20).await;
    let _child = forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    webhook.until_accepted(20).await;
    gateway.kill();
    published.extend(publish_steps(&other, 20..40).await);
    let _successor = gateway::on(&redis, &settings).await;
    published.extend(publish_steps(&other, 40..60).await);
    assert_eq!(ids(&webhook.until_accepted(60).await), published);
}

#[tokio::test]
async fn a_refused_event_stops_forwarding_or_is_skipped() {
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|n| Answer::Status(if matches!(n, 1 | 2) { 422 } else { 204 })).await;
    let folder = tempfile::tempdir().unwrap();
    let published = publish_steps(&gateway, 0..3).await;
    let said = ended(forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap()).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(&published[1]) && said.err.contains("HTTP 422"), "{said:?}");
    assert_eq!(position(folder.path()), published[0], "the position is before the refused event");
    let child = forward(&gateway.url(""), &webhook, folder.path(), &["--on-refusal", "skip"]).spawn().unwrap();
    assert_eq!(ids(&webhook.until_accepted(2).await), [&published[0], &published[2]]);
    eventually("the position is stored", || async { position(folder.path()) == published[2] }).await;
    signal(&child, "INT");
    let said = ended(child).await;
    assert!(said.code == Some(0) && said.err.contains("1 posted, 1 refused"), "{said:?}");
}

#[tokio::test]
async fn missing_events_are_reported_by_a_post_of_their_own() {
    let redis = RedisServer::start();
    let short = [("CREWCAST_NAMESPACES__STREAM__LOG__LENGTH", "5")];
    let gateway = gateway::on(&redis, &short).await;
    let webhook = Webhook::start(|n| Answer::Status(if n == 1 { 400 } else { 204 })).await;
    let folder = tempfile::tempdir().unwrap();
    publish_steps(&gateway, 0..1).await;
    let child = forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    eventually("the position is stored", || async { folder.path().join("position").exists() }).await;
    kill(child).await;
    let published = publish_steps(&gateway, 1..21).await;
    // A new gateway, which has nothing in memory that the log has lost.
    let gateway = gateway::on(&redis, &short).await;
    let _child = forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    let accepted = webhook.until_accepted(6).await;
    assert_eq!(ids(&accepted[1..]), published[15..], "forwarding continues after the webhook refuses the report");
    let news = &webhook.posts()[1];
    assert_eq!(news.headers["x-crewcast-control"], "reset");
    assert_eq!(
        news.json(),
        json!({ "type": "reset", "source": "gateway", "channel": CHANNEL, "reason": "trimmed", "from": published[15] })
    );
    assert_signed(news);
    assert_eq!(news.id(), "");
}

#[tokio::test]
async fn sigterm_waits_for_the_post_in_flight() {
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|_| Answer::Slow(Duration::from_millis(500))).await;
    let folder = tempfile::tempdir().unwrap();
    let published = publish_steps(&gateway, 0..2).await;
    let start = || forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    let child = start();
    eventually("a POST is in flight", || async { !webhook.posts().is_empty() }).await;
    signal(&child, "TERM");
    assert_eq!(ended(child).await.code, Some(0));
    assert_eq!(position(folder.path()), published[0]);
    let _next = start();
    assert_eq!(ids(&webhook.until_accepted(2).await), published, "each once");
}

#[tokio::test]
async fn events_of_other_types_advance_the_position_and_are_not_posted() {
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|_| Answer::Status(204)).await;
    let folder = tempfile::tempdir().unwrap();
    let publisher = token(json!({ "org": null, "publish": [CHANNEL] }));
    let before = publish_steps(&gateway, 0..1).await;
    let child = forward(&gateway.url(""), &webhook, folder.path(), &["--types", "EXECUTION_FAILED"]).spawn().unwrap();
    eventually("the position moves", || async {
        folder.path().join("position").exists() && position(folder.path()) == before[0]
    })
    .await;
    let failed = publish(&gateway, &publisher, CHANNEL, json!({ "type": "execution_failed" })).await;
    assert_eq!(ids(&webhook.until_accepted(1).await), [failed]);
    assert_eq!(webhook.posts().len(), 1);
    kill(child).await;
}

#[tokio::test]
async fn invalid_arguments_are_reported_at_once() {
    let gateway = gateway::memory(&[]).await;
    let webhook = Webhook::start(|_| Answer::Status(204)).await;
    let folder = tempfile::tempdir().unwrap();
    let url = gateway.url("");
    let said = |to: &'static str, claims: Value| {
        let mut command = crewcast(&["forward", "--channel", CHANNEL, "--to", to, "--gateway", &url]);
        ended(command.env("CREWCAST_TOKEN", token(claims)).spawn().unwrap())
    };
    let bad = said("ftp://u:hunter2@h/x", json!({})).await;
    assert!(bad.code == Some(2) && !bad.err.contains("hunter2"), "{bad:?}");
    let refused = said("http://127.0.0.1:1/", json!({ "streams": ["other"] })).await;
    assert!(refused.code == Some(1) && refused.err.contains("grant"), "{refused:?}");
    let first = forward(&url, &webhook, folder.path(), &[]).spawn().unwrap();
    eventually("the command holds its lock", || async { folder.path().join("position.lock").exists() }).await;
    publish_steps(&gateway, 0..1).await;
    webhook.until_accepted(1).await;
    let second = ended(forward(&url, &webhook, folder.path(), &[]).spawn().unwrap()).await;
    assert!(second.code == Some(1) && second.err.contains("another forward"), "{second:?}");
    kill(first).await;
}

#[tokio::test]
async fn a_webhook_that_returns_after_a_long_outage_gets_everything() {
    let gateway = gateway::memory(&[("CREWCAST_LIMITS__STALL", "1s")]).await;
    let away = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_away = away.clone();
    let webhook = Webhook::start(move |_| {
        Answer::Status(if is_away.load(std::sync::atomic::Ordering::SeqCst) { 503 } else { 204 })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let _child = forward(&gateway.url(""), &webhook, folder.path(), &[]).spawn().unwrap();
    // More than the client buffers, so that the gateway gives up on the stalled socket, too.
    let published = publish_steps(&gateway, 0..600).await;
    eventually("the command retries", || async { webhook.posts().len() >= 3 }).await;
    away.store(false, std::sync::atomic::Ordering::SeqCst);
    let accepted = tokio::time::timeout(PATIENCE, webhook.until_accepted(600)).await.unwrap();
    assert_eq!(ids(&accepted), published);
    let chain: Vec<EventId> = accepted.iter().map(|post| post.id().parse().unwrap()).collect();
    assert!(chain.windows(2).all(|pair| pair[1].continues(Some(pair[0]))));
}
