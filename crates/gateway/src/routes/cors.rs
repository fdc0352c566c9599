//! Cross-origin access to HTTP and event streams (the Fetch standard's CORS protocol).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::{AllowedOrigin, OriginList};

/// How long a browser may cache a preflight's answer. Chromium caps it at two hours.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Request headers that pages may send: those that the endpoints read, and those that libraries add to every request
/// (W3C Trace Context and Baggage, Sentry, polyfills of `EventSource`).
const HEADERS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("sentry-trace"),
];

/// The layer for the origins that may use HTTP. `None` if there are none: no CORS header is sent, and only pages of
/// the same origin can read answers. `*` allows every origin. This gives away no user's rights, because cookies are
/// never used. `more_headers` are allowed besides those that every deployment needs.
pub(crate) fn layer(origins: OriginList<'_>, more_headers: &[HeaderName]) -> Option<CorsLayer> {
    if origins.allowed.is_empty() {
        return None;
    }
    let headers: Vec<_> = HEADERS.iter().chain(more_headers).cloned().collect();
    Some(
        CorsLayer::new()
            .allow_origin(if origins.contain_all() { AllowOrigin::any() } else { listed(origins) })
            .allow_methods([Method::GET, Method::POST])
            .allow_headers(headers)
            .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
            .max_age(MAX_AGE),
    )
}

fn listed(origins: OriginList<'_>) -> AllowOrigin {
    let (key, allowed): (_, Vec<AllowedOrigin>) = (origins.key, origins.allowed.to_vec());
    AllowOrigin::predicate(move |origin: &HeaderValue, _| {
        origin.to_str().is_ok_and(|origin| OriginList { key, allowed: &allowed }.contain(origin))
    })
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
        let allowed: Vec<AllowedOrigin> = allowed.iter().map(|origin| origin.parse().unwrap()).collect();
        let layer = layer(OriginList { key: "allowed_origins", allowed: &allowed }, &["x-app".parse().unwrap()]);
        let router = Router::new().route("/x", get(|| async { "x" })).layer(option_layer(layer));
        let request = Request::builder()
            .method(method)
            .uri("/x")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().headers().clone()
    }

    #[tokio::test]
    async fn wildcards_work_as_for_sockets() {
        let allowed = ["http://localhost:*", "https://*.example.com", "tauri://localhost", "null"];
        for good in ["http://localhost:5173", "https://a.example.com", "tauri://localhost", "null"] {
            let headers = answer(&allowed, "OPTIONS", good).await;
            assert_eq!(headers["access-control-allow-origin"], good);
            assert!(headers["vary"].to_str().unwrap().contains("origin"), "{headers:?}");
        }
        let headers = answer(&allowed, "GET", "https://localhost:5173").await;
        assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
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
        let sent = headers["access-control-allow-headers"].to_str().unwrap();
        for name in
            ["authorization", "last-event-id", "traceparent", "baggage", "sentry-trace", "cache-control", "x-app"]
        {
            assert!(sent.split(',').any(|header| header == name), "{name}: {sent}");
        }
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let headers = answer(&allowed, "GET", "https://evil.example").await;
        assert!(!headers.contains_key("access-control-allow-origin"), "{headers:?}");
        assert_eq!(answer(&["*"], "GET", "https://any.example").await["access-control-allow-origin"], "*");
    }
}
