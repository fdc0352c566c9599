use super::*;

const REQUEST: [(&str, &str); 4] = [
    ("connection", "keep-alive, UpGrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// The valid request with some headers replaced; an empty value removes.
fn headers(changes: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in REQUEST.iter().chain(changes) {
        if value.is_empty() {
            headers.remove(*name);
        } else {
            headers.insert(*name, HeaderValue::from_static(value));
        }
    }
    headers
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(false, None);
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "upgrade");
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(true, None);
    assert_eq!(response.headers()["sec-websocket-protocol"], "token");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    let extensions = Some(HeaderValue::from_static("permessage-deflate"));
    let response = check(&headers(&[]), &Method::GET).unwrap().accept(false, extensions);
    assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
}

#[tokio::test]
async fn every_refusal_has_its_status_and_says_what_would_do() {
    use HandshakeError::{Key, NotAnUpgrade, Version};
    for (changes, error, status, hint) in [
        ([("upgrade", "")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("upgrade", "h2c")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("connection", "")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("connection", "keep-alive")], NotAnUpgrade, 426, Some(("upgrade", "websocket"))),
        ([("sec-websocket-version", "")], Version, 426, Some(("sec-websocket-version", "13"))),
        ([("sec-websocket-version", "8")], Version, 426, Some(("sec-websocket-version", "13"))),
        ([("sec-websocket-key", "")], Key, 400, None),
        ([("sec-websocket-key", "short")], Key, 400, None),
        ([("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAA")], Key, 400, None),
        ([("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!==")], Key, 400, None),
    ] {
        assert_eq!(check(&headers(&changes), &Method::GET), Err(error), "{changes:?}");
        assert_refused(error, status, hint).await;
    }
    assert_eq!(check(&headers(&[]), &Method::POST), Err(HandshakeError::Method));
    assert_refused(HandshakeError::Method, 405, Some(("allow", "GET"))).await;
    let mut doubled = headers(&[]);
    doubled.append("sec-websocket-key", HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
    assert_eq!(check(&doubled, &Method::GET), Err(Key));
}

async fn assert_refused(error: HandshakeError, status: u16, hint: Option<(&str, &str)>) {
    let response = error.into_response();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    if let Some((name, value)) = hint {
        assert_eq!(response.headers()[name], value);
    }
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (problem["status"].as_u64(), problem["detail"].as_str()),
        (Some(status.into()), Some(&*error.to_string()))
    );
}
