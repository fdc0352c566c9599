//! The operator's endpoints: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::problem::{Problem, ProblemType};
use crate::app::App;

/// Media type of the Prometheus text format 0.0.4.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 200 as long as the process schedules work: the answer itself is the proof.
pub(crate) async fn livez() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

/// 200 while this replica delivers events and is not draining, else 503 with the reason.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    match app.readiness.check() {
        Ok(()) => Ok(Json(json!({"status": "ready"})).into_response()),
        Err(why) => Err(Problem::new(ProblemType::NotReady, why.to_string())),
    }
}

/// Every metric, for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let recorder =
        app.recorder.as_ref().ok_or_else(|| Problem::new(ProblemType::NotFound, "this process records no metrics"))?;
    app.readiness.export();
    Ok(([(header::CONTENT_TYPE, PROMETHEUS)], recorder.render()).into_response())
}
