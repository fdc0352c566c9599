//! The WebSocket handshake (RFC 6455 section 4.2), which turns an HTTP request into a bare TCP stream.
//!
//! Three steps, so that a caller can decide about admission in between: [`check`] the request, answer with
//! [`Handshake::accept`], and [`take_stream`] once the answer is out.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto};
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;

/// Appended to the key before hashing (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The subprotocol that browsers offer together with their token.
const TOKEN_PROTOCOL: HeaderValue = HeaderValue::from_static("token");

/// Why a request is not a WebSocket handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Only GET requests can be upgraded.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// `Connection` or `Upgrade` does not ask for an upgrade.
    #[error("this endpoint speaks WebSocket: send `Connection: Upgrade` and `Upgrade: websocket`")]
    NotAnUpgrade,
    /// A version other than 13.
    #[error("only version 13 of the WebSocket protocol is spoken")]
    Version,
    /// The key is missing, repeated, or not 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64, once")]
    Key,
}

impl HandshakeError {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key => StatusCode::BAD_REQUEST,
        }
    }

    /// The value of a metric's `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::Version => "version",
            Self::Key => "key",
        }
    }

    /// The header that tells the client what is supported (RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4).
    fn hint(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Method => Some((header::ALLOW, HeaderValue::from_static("GET"))),
            Self::NotAnUpgrade => Some((header::UPGRADE, HeaderValue::from_static("websocket"))),
            Self::Version => Some((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))),
            Self::Key => None,
        }
    }
}

/// Answers with an RFC 9457 problem document.
impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let status = self.status();
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (status, [content_type], problem.to_string()).into_response();
        if let Some((name, value)) = self.hint() {
            if name == header::UPGRADE {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A request that may become a WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handshake {
    accept: HeaderValue,
}

/// Checks a request's head.
///
/// # Errors
/// What is missing. The error is also the response that tells the client.
pub fn check(headers: &HeaderMap, method: &Method) -> Result<Handshake, HandshakeError> {
    if method != Method::GET {
        return Err(HandshakeError::Method);
    }
    if !lists(headers, header::CONNECTION, "upgrade") || !lists(headers, header::UPGRADE, "websocket") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if only(headers, header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(HandshakeError::Version);
    }
    let key = only(headers, header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(HandshakeError::Key);
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let accept = HeaderValue::try_from(STANDARD.encode(digest)).map_err(|_| HandshakeError::Key)?;
    Ok(Handshake { accept })
}

impl Handshake {
    /// The answer that completes the handshake.
    ///
    /// `select_token`: the client offered the subprotocol `token` together with its token; the answer selects that
    /// name, and never repeats the token. `extensions`: the agreed extensions, see [`super::deflate::agree`].
    pub fn accept(self, select_token: bool, extensions: Option<HeaderValue>) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if select_token {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, TOKEN_PROTOCOL);
        }
        if let Some(extensions) = extensions {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
        }
        response
    }
}

/// Why there is no stream behind an accepted handshake.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The client went away before the answer was out.
    #[error("the connection ended during the handshake: {0}")]
    Lost(#[from] hyper::Error),
    /// The request did not come over a bare TCP connection, as from `axum::serve` or the gateway's listener.
    #[error("the connection is not a bare TCP stream")]
    NotTcp,
}

/// Waits until the answer is out, then takes the stream and what the client has sent behind its request.
///
/// The handle is in the request's extensions. The answer must have been returned, so run this in a task of its own.
///
/// # Errors
/// See [`UpgradeError`].
pub async fn take_stream(on_upgrade: OnUpgrade) -> Result<(TcpStream, Bytes), UpgradeError> {
    match on_upgrade.await?.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        // `axum::serve` wraps the stream once more.
        Err(upgraded) => auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded)
            .map(|parts| (parts.io.into_inner(), parts.read_buf))
            .map_err(|_| UpgradeError::NotTcp),
    }
}

/// The bytes of `header`, if it is there exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes().trim_ascii())
}

/// Whether a comma-separated header, possibly repeated, lists `token`, ignoring case.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests;
