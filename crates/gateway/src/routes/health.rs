//! `GET /health`: for load balancers on the public listener. Says only that the process serves; whether it
//! delivers is the admin listener's `/readyz`.

use axum::{Json, response::IntoResponse};
use serde_json::json;

/// 200 while the process serves.
pub async fn health() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}
