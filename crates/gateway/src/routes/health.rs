//! `GET /health`, for load balancers on the public listener. Reports only that the process serves requests; `/readyz`
//! of the admin listener reports whether it delivers.

use axum::{Json, response::IntoResponse};
use serde_json::json;

/// 200 while the process serves requests.
pub(crate) async fn health() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}
