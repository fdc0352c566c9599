//! Publishing, and waiting until a socket receives.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;

use super::{
    PATIENCE,
    gateway::{self, Gateway},
    redis::RedisServer,
    socket::Socket,
    token::token,
};

/// Publishes a logged event through a gateway, byte for byte, and returns the id of the event.
pub async fn logged(gateway: &Gateway, channel: &str, event: &str) -> String {
    let publisher = token(json!({ "publish": ["graph:*", "run:*", "mission:*"] }));
    let request = gateway::client().post(gateway.url("/api/v1/publish")).bearer_auth(&publisher);
    let body = format!(r#"{{"channel":"{channel}","event":{event}}}"#);
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}: {event}");
    let ids: serde_json::Value = serde_json::from_str(&text).unwrap();
    ids["ids"][0].as_str().unwrap().to_owned()
}

/// Waits until the socket receives what is published to this channel. Nothing else may be published meanwhile.
pub async fn until_heard(redis: &RedisServer, channel: &str, socket: &mut Socket) {
    let began = Instant::now();
    for sent in 1.. {
        redis.publish(channel, marker(sent).as_bytes());
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), socket.inner.next()).await {
            let mut text = heard.unwrap().unwrap().into_text().unwrap().to_string();
            while text != marker(sent) {
                text = socket.text().await;
            }
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the socket receives nothing of {channel}");
    }
}

fn marker(n: usize) -> String {
    format!(r#"{{"type":"marker","n":{n}}}"#)
}
