//! Cross-origin access to HTTP and event streams (the Fetch standard's CORS protocol).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may cache a preflight's answer. Chromium caps it at two hours.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The layer for `cors.allowed_origins`. `None` if the list is empty: no CORS header is sent, and only pages of the
/// same origin can read answers. `*` allows every origin. This gives away no user's rights, because cookies are never
/// used.
pub(crate) fn layer(allowed_origins: &[String]) -> Option<CorsLayer> {
    if allowed_origins.is_empty() {
        return None;
    }
    let origins = if allowed_origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("last-event-id")])
            .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
            .max_age(MAX_AGE),
    )
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        http::{HeaderMap, Request},
        routing::get,
    };
    use tower::{ServiceExt as _, util::option_layer};

    use super::*;

    async fn answer(allowed: &[&str], method: &str, origin: &str) -> HeaderMap {
        let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        let router = Router::new().route("/x", get(|| async { "x" })).layer(option_layer(layer(&allowed)));
        let request = Request::builder()
            .method(method)
            .uri("/x")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().headers().clone()
    }

    #[tokio::test]
    async fn no_origin_is_allowed_by_default() {
        for method in ["GET", "OPTIONS"] {
            let headers = answer(&[], method, "https://evil.example").await;
            assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{headers:?}");
        }
    }

    #[tokio::test]
    async fn only_a_listed_origin_is_allowed() {
        let allowed = ["https://app.example", "https://two.example"];
        let headers = answer(&allowed, "OPTIONS", "https://two.example").await;
        assert_eq!(headers["access-control-allow-origin"], "https://two.example");
        assert_eq!(headers["access-control-allow-methods"], "GET,POST");
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("last-event-id"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let headers = answer(&allowed, "GET", "https://evil.example").await;
        assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
        assert_eq!(answer(&["*"], "GET", "https://any.example").await["access-control-allow-origin"], "*");
    }
}
