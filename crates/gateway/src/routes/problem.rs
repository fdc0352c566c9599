//! Problem documents (RFC 9457): the form of every refusal over HTTP.
//!
//! A problem never contains internals. Internal errors are logged, and the document tells the caller what to do.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use crewcast_store::AppendError;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::broker::BrokerError;

/// Longest `detail`, in characters: it may contain text from the client.
const MAX_DETAIL: usize = 300;

/// When to retry while the broker is down: replicas reconnect at least once a second.
pub(crate) const BROKER_RETRY: Duration = Duration::from_secs(2);

/// The type of a problem. It determines the `type`, which never changes, the status and the title.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ProblemType {
    /// The endpoint does not accept the request.
    Malformed,
    /// Not a channel name, or a namespace that is not configured.
    BadChannel,
    /// Not an event, or an event that cannot be logged.
    BadEvent,
    /// No token, or an invalid one.
    Unauthorized,
    /// The token does not grant this.
    Forbidden,
    /// No such endpoint.
    NotFound,
    /// The endpoint does not take this method.
    MethodNotAllowed,
    /// The request's body did not arrive in time.
    Timeout,
    /// The id belongs to another org.
    OwnedByAnother,
    /// The body, an event or a state document exceeds its limit.
    TooLarge,
    /// Over a limit of number or rate.
    TooMany,
    /// A fault of the gateway.
    Internal,
    /// The broker is down.
    Unavailable,
    /// This replica does not deliver events, or is draining.
    NotReady,
}

impl ProblemType {
    /// All of them, in the order of the documentation.
    #[cfg(test)]
    pub(crate) const ALL: [ProblemType; 14] = [
        ProblemType::Malformed,
        ProblemType::BadChannel,
        ProblemType::BadEvent,
        ProblemType::Unauthorized,
        ProblemType::Forbidden,
        ProblemType::NotFound,
        ProblemType::MethodNotAllowed,
        ProblemType::Timeout,
        ProblemType::OwnedByAnother,
        ProblemType::TooLarge,
        ProblemType::TooMany,
        ProblemType::Internal,
        ProblemType::Unavailable,
        ProblemType::NotReady,
    ];

    /// The `type`: an identifier to compare, not an address to open.
    pub(crate) fn urn(self) -> &'static str {
        match self {
            ProblemType::Malformed => "urn:crewcast:problem:malformed",
            ProblemType::BadChannel => "urn:crewcast:problem:bad-channel",
            ProblemType::BadEvent => "urn:crewcast:problem:bad-event",
            ProblemType::Unauthorized => "urn:crewcast:problem:unauthorized",
            ProblemType::Forbidden => "urn:crewcast:problem:forbidden",
            ProblemType::NotFound => "urn:crewcast:problem:not-found",
            ProblemType::MethodNotAllowed => "urn:crewcast:problem:method-not-allowed",
            ProblemType::Timeout => "urn:crewcast:problem:timeout",
            ProblemType::OwnedByAnother => "urn:crewcast:problem:owned-by-another",
            ProblemType::TooLarge => "urn:crewcast:problem:too-large",
            ProblemType::TooMany => "urn:crewcast:problem:too-many",
            ProblemType::Internal => "urn:crewcast:problem:internal",
            ProblemType::Unavailable => "urn:crewcast:problem:unavailable",
            ProblemType::NotReady => "urn:crewcast:problem:not-ready",
        }
    }

    /// The HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            ProblemType::Malformed | ProblemType::BadChannel | ProblemType::BadEvent => StatusCode::BAD_REQUEST,
            ProblemType::Unauthorized => StatusCode::UNAUTHORIZED,
            ProblemType::Forbidden => StatusCode::FORBIDDEN,
            ProblemType::NotFound => StatusCode::NOT_FOUND,
            ProblemType::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ProblemType::Timeout => StatusCode::REQUEST_TIMEOUT,
            ProblemType::OwnedByAnother => StatusCode::CONFLICT,
            ProblemType::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProblemType::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ProblemType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ProblemType::Unavailable | ProblemType::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The title: the same text for every problem of this type.
    pub(crate) fn title(self) -> &'static str {
        match self {
            ProblemType::Malformed => "The request is not understood",
            ProblemType::BadChannel => "No such channel",
            ProblemType::BadEvent => "This is not an event that can be published so",
            ProblemType::Unauthorized => "A valid token is needed",
            ProblemType::Forbidden => "The token does not grant this",
            ProblemType::NotFound => "No such endpoint",
            ProblemType::MethodNotAllowed => "The endpoint does not take this method",
            ProblemType::Timeout => "The request did not arrive in time",
            ProblemType::OwnedByAnother => "The id belongs to another org",
            ProblemType::TooLarge => "Over a size limit",
            ProblemType::TooMany => "Over a limit of number or rate",
            ProblemType::Internal => "The gateway has failed",
            ProblemType::Unavailable => "The broker is away",
            ProblemType::NotReady => "This replica is not ready",
        }
    }
}

/// A refusal. Build it with [`Problem::new`] and return it as the response.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    urn: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    /// Seconds, as in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(flatten)]
    extensions: Map<String, Value>,
    #[serde(skip)]
    kind: ProblemType,
    #[serde(skip)]
    challenge: Option<&'static str>,
}

impl Problem {
    /// A problem with a detail that tells the caller what to do. Details are cut at 300 characters.
    pub(crate) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        Self {
            urn: kind.urn(),
            title: kind.title(),
            status: kind.status().as_u16(),
            detail,
            retry_after: None,
            extensions: Map::new(),
            kind,
            challenge: (kind == ProblemType::Unauthorized).then_some("Bearer"),
        }
    }

    /// The broker does not answer: 503 with `Retry-After`.
    pub(crate) fn unavailable() -> Self {
        Self::new(ProblemType::Unavailable, "the broker does not answer: try again").retry_after(BROKER_RETRY)
    }

    /// A fault of the gateway: 500. Log the cause; it does not belong here.
    pub(crate) fn internal() -> Self {
        Self::new(ProblemType::Internal, "the gateway's log says more")
    }

    /// Sets when to retry, in the document and in `Retry-After`: whole seconds, rounded up.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after.as_secs() + u64::from(after.subsec_nanos() > 0));
        self
    }

    /// Adds an extension member.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extensions.insert(key.to_owned(), value.into());
        self
    }

    /// Tells the caller that the token is invalid, as opposed to missing (RFC 6750, 3.1).
    pub(crate) fn invalid_token(mut self) -> Self {
        self.challenge = Some(r#"Bearer error="invalid_token""#);
        self
    }

    /// The type of the problem.
    #[cfg(test)]
    pub(crate) fn kind(&self) -> ProblemType {
        self.kind
    }

    /// The text of `detail`.
    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after, challenge) = (self.kind.status(), self.retry_after, self.challenge);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Unavailable(_) => Self::unavailable(),
            BrokerError::Protocol(_) => {
                tracing::error!(%error, "a request failed at the broker");
                Self::internal()
            }
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(_) => Self::unavailable(),
            AppendError::Gap { .. } | AppendError::Refused(_) => {
                tracing::error!(%error, "publishing failed at the broker");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(problem: Problem) -> (Response<()>, Value) {
        let (parts, body) = problem.into_response().into_parts();
        let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_is_a_document_with_its_own_content_type() {
        let problem = Problem::new(ProblemType::TooMany, "slower").retry_after(Duration::from_millis(1200));
        let (response, body) = answered(problem.with("line", 3)).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:crewcast:problem:too-many", "title": "Over a limit of number or rate",
                "status": 429, "detail": "slower", "retry_after": 2, "line": 3,
            })
        );
    }

    #[tokio::test]
    async fn the_challenge_distinguishes_a_missing_from_an_invalid_token() {
        let missing = Problem::new(ProblemType::Unauthorized, "send one");
        let (response, _) = answered(missing.clone()).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (response, _) = answered(missing.invalid_token()).await;
        assert_eq!(response.headers()["www-authenticate"], r#"Bearer error="invalid_token""#);
        let (response, _) = answered(Problem::new(ProblemType::Forbidden, "no")).await;
        assert!(!response.headers().contains_key("www-authenticate"));
    }

    #[tokio::test]
    async fn internals_are_hidden_and_details_are_short() {
        for problem in [
            Problem::from(BrokerError::Unavailable("redis://:hunter2@10.0.0.7".into())),
            Problem::from(BrokerError::Protocol("redis://:hunter2@10.0.0.7".into())),
            Problem::from(AppendError::Unavailable("redis://:hunter2@10.0.0.7".into())),
            Problem::from(AppendError::Refused("redis://:hunter2@10.0.0.7".into())),
        ] {
            let (_, body) = answered(problem).await;
            assert!(!body.to_string().contains("hunter2"), "{body}");
        }
        let long = Problem::new(ProblemType::Malformed, "é".repeat(10_000));
        assert_eq!(long.detail().chars().count(), MAX_DETAIL + 1);
    }

    #[test]
    fn problem_types_are_distinct_and_documented() {
        let document = include_str!("../../../../docs/http.md");
        let mut urns: Vec<_> = ProblemType::ALL.iter().map(|kind| kind.urn()).collect();
        for kind in ProblemType::ALL {
            let row = document.lines().find(|line| line.contains(&format!("`{}`", kind.urn())));
            let row = row.unwrap_or_else(|| panic!("{} is not in docs/http.md", kind.urn()));
            assert!(row.contains(&format!("| {} |", kind.status().as_u16())), "{row}");
        }
        urns.sort_unstable();
        urns.dedup();
        assert_eq!(urns.len(), ProblemType::NotReady as usize + 1);
    }
}
