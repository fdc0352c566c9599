//! All routes of this process.

mod admin;
mod body;
mod caller;
pub(crate) mod cors;
mod directory;
mod health;
mod history;
mod openapi;
pub(crate) mod problem;
mod publish;
mod socket_query;
mod sockets;
mod sse;
mod stats;
#[cfg(test)]
mod tests;
mod tickets;
mod types;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderValue, Uri, header},
    routing::{MethodRouter, get, post},
};
use tower_http::set_header::SetResponseHeaderLayer;

use self::problem::{Problem, ProblemType};
use crate::app::App;

pub(crate) use sockets::{no_such_endpoint, socket_routes};

type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

/// The routes of the public listener over plain HTTP: method, path, handler. Each is in `openapi.json`; a test checks
/// it.
fn public() -> Vec<Route> {
    vec![
        ("POST", "/api/v1/publish", post(publish::publish)),
        ("POST", "/api/v1/directory", post(directory::register)),
        ("POST", "/api/v1/tickets", post(tickets::issue)),
        ("GET", "/api/v1/channels/{channel}/events", get(history::history)),
        ("GET", "/api/openapi.json", get(openapi::openapi)),
        ("GET", "/sse", get(sse::sse)),
        ("GET", "/ws/stats", get(stats::stats)),
        ("GET", "/health", get(health::health)),
    ]
}

/// The routes of the admin listener.
fn operator() -> Vec<Route> {
    vec![
        ("GET", "/livez", get(admin::livez)),
        ("GET", "/readyz", get(admin::readyz)),
        ("GET", "/metrics", get(admin::metrics)),
    ]
}

/// The plain HTTP routes of the public listener. The caller wraps these and the event streams in the CORS layer:
/// [`cors::layer`].
pub(crate) fn http_routes() -> Router<Arc<App>> {
    router(public())
}

/// `/livez`, `/readyz`, `/metrics`.
pub(crate) fn admin_routes() -> Router<Arc<App>> {
    router(operator()).fallback(not_found)
}

fn router(routes: Vec<Route>) -> Router<Arc<App>> {
    let router = routes.into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    // Answers are valid for one token and one moment.
    let no_store = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    router.method_not_allowed_fallback(method_not_allowed).layer(no_store)
}

/// 404 as a problem document. Also the fallback of the public listener.
pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem::new(ProblemType::NotFound, format!("there is nothing at {}", uri.path()))
}

/// 405 as a problem document, for every path of the public listener.
pub(crate) async fn method_not_allowed(uri: Uri) -> Problem {
    Problem::new(ProblemType::MethodNotAllowed, format!("{} does not take this method", uri.path()))
}
