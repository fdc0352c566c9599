//! `GET /api/openapi.json`: the document `openapi.json` in this folder.

use axum::{http::header, response::IntoResponse};

/// OpenAPI 3.1, written by hand.
pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

/// The document.
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
