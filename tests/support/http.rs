//! Requests of producers and readers over plain HTTP.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::gateway::{Gateway, client};

/// Publishes one event and returns its id.
pub async fn publish(gateway: &Gateway, token: &str, channel: &str, event: Value) -> String {
    let answer = post(gateway, "/api/v1/publish", token, json!({ "channel": channel, "event": event })).await;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    body["ids"][0].as_str().unwrap().to_owned()
}

pub async fn post(gateway: &Gateway, path: &str, token: &str, body: Value) -> Response {
    client().post(gateway.url(path)).bearer_auth(token).json(&body).send().await.unwrap()
}

pub async fn get(gateway: &Gateway, path: &str, token: &str) -> Response {
    client().get(gateway.url(path)).bearer_auth(token).send().await.unwrap()
}

/// Exchanges this token for a ticket.
pub async fn ticket(gateway: &Gateway, token: &str) -> String {
    let answer = post(gateway, "/api/v1/tickets", token, Value::Null).await;
    assert_eq!(answer.status(), 200);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["expires_in"], 60);
    body["ticket"].as_str().unwrap().to_owned()
}

/// Asserts that the response is a complete problem document of this type, and returns it.
#[track_caller]
pub fn problem(answer: Response, status: u16, kind: &str) -> impl Future<Output = Value> {
    let at = std::panic::Location::caller();
    let kind = format!("urn:crewcast:problem:{kind}");
    async move {
        let (got, content_type) = (answer.status(), answer.headers().get("content-type").cloned());
        let text = answer.text().await.unwrap();
        assert_eq!(got, status, "{at}: {text}");
        assert_eq!(content_type.unwrap(), "application/problem+json", "{at}: {text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["type"], kind.as_str(), "{at}: {body}");
        assert_eq!(body["status"], status, "{at}: {body}");
        assert!(!body["title"].as_str().unwrap().is_empty(), "{at}: {body}");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{at}: {body}");
        body
    }
}
