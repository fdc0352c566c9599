//! `GET /sse?channel=…&channel=…`: any granted channels as server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use crewcast_events::Channel;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{
    caller::identify,
    problem::{Problem, ProblemType},
    publish::channel,
    types,
};
use crate::{
    app::App,
    auth::{Grant, Presented},
    config::Config,
    connection::{self, Admission, Principal},
    dialect::sse::{MAX_ID, Sse, longest_id},
    drain,
    limits::{ConnectionPermit, LimitReached},
    outbox::EventStream,
    telemetry::metrics::{Metric, counter},
};

/// The parsed query.
#[derive(Default)]
struct SseQuery {
    channels: Vec<Channel>,
    since: Option<String>,
    types: Vec<String>,
}

/// Opens an event stream. If a channel is not granted, the answer is 403 before the stream starts.
pub(crate) async fn sse(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let presented = Presented::of(&parts.headers, parts.uri.query(), app.config.auth.query_token);
    // Admission comes before authentication: each guessed ticket costs a request to the broker.
    let (leave, permit) = enter(&app, &parts)?;
    let identity = identify(&app, &parts, &presented.credential).await.inspect_err(|error| refused(error.label()))?;
    let mut query =
        parse_query(parts.uri.query().unwrap_or_default(), &app.config).inspect_err(|_| refused("malformed"))?;
    for channel in &query.channels {
        // A channel whose id has no owner yet is waited for.
        if app.auth.grant(&identity, channel).await.inspect_err(|_| refused("unavailable"))? == Grant::Denied {
            refused("forbidden");
            let detail = format!("the token does not grant {channel}: ask for access");
            return Err(Problem::new(ProblemType::Forbidden, detail));
        }
    }
    let user = if identity.anonymous { None } else { Some(app.limits.identify(&identity.sub).map_err(limit_reached)?) };
    let client = app.limits.client_key(app.client_ip(&parts), "/sse");
    let admission = Admission { leave, _permit: permit, client, endpoint: app.shared.usage.endpoint("/sse"), user };
    // The header that EventSource repeats is newer than the value in its URL.
    let header = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let last = header.or_else(|| query.since.take());
    let retains = |channel: &Channel| app.config.namespaces.of(channel).is_some_and(|rules| rules.retain);
    let dialect = Box::new(Sse::new(query.channels, last.as_deref(), query.types).retaining(retains));
    let (stream, chunks) = EventStream::new();
    app.sockets.spawn(connection::run(app.shared.clone(), stream, Principal::User(identity), dialect, admission));
    Ok(response(chunks))
}

fn limit_reached(limit: LimitReached) -> Problem {
    refused(limit.label());
    Problem::new(ProblemType::TooMany, limit.to_string()).retry_after(Duration::from_secs(5))
}

fn enter(app: &App, parts: &Parts) -> Result<(drain::DrainGuard, ConnectionPermit), Problem> {
    let Some(leave) = app.drain.enter() else {
        refused("draining");
        return Err(Problem::new(ProblemType::Unavailable, "this replica is going away: reconnect")
            .retry_after(Duration::from_secs(1)));
    };
    let permit = app.limits.connect(app.client_ip(parts)).map_err(limit_reached)?;
    Ok((leave, permit))
}

fn refused(reason: &str) {
    counter(Metric::HandshakesRefused, &[("reason", reason)]).increment(1);
}

fn parse_query(query: &str, config: &Config) -> Result<SseQuery, Problem> {
    let mut parsed = SseQuery::default();
    let most = config.limits.subscriptions;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "channel" => {
                let channel = channel(&value, &config.namespaces)?;
                if !parsed.channels.contains(&channel) {
                    parsed.channels.push(channel);
                }
            }
            "since" => parsed.since = Some(value.into_owned()),
            "types" => types::add(&mut parsed.types, &value)
                .map_err(|error| Problem::new(ProblemType::Malformed, error.to_string()))?,
            _ => {}
        }
    }
    if parsed.channels.is_empty() {
        return Err(Problem::new(ProblemType::Malformed, "name at least one channel: /sse?channel=graph:abc"));
    }
    if parsed.channels.len() > most {
        return Err(Problem::new(ProblemType::Malformed, format!("at most {most} channels in one stream")));
    }
    let id = longest_id(&parsed.channels);
    if id > MAX_ID {
        let detail = format!(
            "so many channels in one stream make an id of {id} bytes, beyond the {MAX_ID} that a Last-Event-ID \
             surely gets through proxies with: open several streams"
        );
        return Err(Problem::new(ProblemType::Malformed, detail));
    }
    Ok(parsed)
}

fn response(chunks: mpsc::Receiver<Bytes>) -> Response {
    let stream = futures_util::stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), chunks))
    });
    let mut response = Response::new(Body::from_stream(stream.boxed()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise buffer the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels with names of 100 bytes, each of which adds 131 bytes to the id.
    fn channels(n: usize) -> String {
        (0..n).map(|i| format!("channel=graph:{i:094}")).collect::<Vec<_>>().join("&")
    }

    #[test]
    fn the_list_of_types_is_bounded() {
        let types = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>().join(",");
        let query = |n: usize| format!("channel=graph:a&types={}&types=t0,t1", types(n));
        assert_eq!(parse_query(&query(64), &Config::default()).unwrap().types.len(), 64);
        let problem = parse_query(&query(65), &Config::default()).err().expect("too many");
        assert!(serde_json::to_string(&problem).unwrap().contains("at most 64 event types"), "{problem:?}");
    }

    #[test]
    fn the_id_of_all_channels_fits_a_header() {
        assert_eq!(parse_query(&channels(31), &Config::default()).unwrap().channels.len(), 31);
        assert_eq!(
            parse_query(&format!("{}&{}", channels(31), channels(31)), &Config::default()).unwrap().channels.len(),
            31
        );
        let problem = parse_query(&channels(32), &Config::default()).err().expect("4192 bytes");
        assert!(serde_json::to_string(&problem).unwrap().contains("open several streams"), "{problem:?}");
    }
}
