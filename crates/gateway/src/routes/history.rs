//! `GET /api/v1/channels/{channel}/events`: a channel's log, page by page, with the same resume rules as a socket.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use bytes::Bytes;
use crewcast_events::{Event, EventId, Resumed, Since, resume};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    caller::Caller,
    problem::{Problem, ProblemType},
    publish::channel,
};
use crate::{
    app::App,
    broker::Page,
    telemetry::metrics::{Metric, counter},
};

/// Most events of one page.
pub(crate) const MAX_LIMIT: usize = 1000;
const DEFAULT_LIMIT: usize = 100;

/// The query parameters.
#[derive(Debug, Deserialize)]
pub(crate) struct HistoryQuery {
    /// The last id that the caller saw, or `0`. Without it, reading starts where the log begins.
    after: Option<String>,
    limit: Option<usize>,
}

/// One page.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryPage {
    channel: String,
    /// The events as published, byte for byte.
    events: Vec<Box<RawValue>>,
    /// The id to send as `after` for the next page; `null` while the channel has never had an event.
    position: Option<String>,
    /// The last id of the channel.
    head: Option<String>,
    /// Set if these events do not continue the caller's `after`.
    reset: Option<Reset>,
    /// Whether the log holds events after `position`.
    more: bool,
}

/// The fields of a socket's `reset` message.
#[derive(Debug, Serialize)]
pub(crate) struct Reset {
    reason: &'static str,
    /// The first id of the events that follow.
    from: Option<String>,
}

/// Reads one page of a channel's log.
///
/// # Errors
/// A problem document.
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<HistoryPage>, Problem> {
    // A path that is not UTF-8 is not a channel.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let channel = channel(&name, &app.config.namespaces)?;
    let Query(query) = query.map_err(|_| bad_limit())?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad_limit());
    }
    if !app.auth.may_read(&identity, &channel).await? {
        return Err(Problem::new(ProblemType::Forbidden, format!("the token does not grant {channel}")));
    }
    let since = query.after.map(|after| after.parse().unwrap_or(Since::Unknown));
    let mut page = app.broker.log.history(&channel, offset_of(since), limit).await?;
    let mut resumed = resumed(since, &page);
    if matches!(resumed, Resumed::Reset(_)) && offset_of(since) > 0 {
        page = app.broker.log.history(&channel, 0, limit).await?;
        // The log may have been replaced in between: that is still a reset.
        resumed = match self::resumed(since, &page) {
            Resumed::Gapless => resumed,
            again => again,
        };
    }
    counter(Metric::HistoryReads, &[("source", "log")]).increment(1);
    Ok(Json(answer(channel.to_string(), since, resumed, page)))
}

fn bad_limit() -> Problem {
    Problem::new(ProblemType::Malformed, format!("\"limit\" is a number from 1 to {MAX_LIMIT}, \"after\" an event id"))
}

fn offset_of(since: Option<Since>) -> u64 {
    match since {
        Some(Since::After(id)) => id.offset(),
        _ => 0,
    }
}

fn resumed(since: Option<Since>, page: &Page) -> Resumed {
    since.map_or(Resumed::Gapless, |since| resume(since, page.at, page.first, page.head))
}

fn answer(channel: String, since: Option<Since>, resumed: Resumed, page: Page) -> HistoryPage {
    let (ids, events): (Vec<EventId>, Vec<Box<RawValue>>) = page.entries.into_iter().filter_map(entry).unzip();
    let reset = match resumed {
        Resumed::Gapless => None,
        Resumed::Reset(reason) => {
            counter(Metric::Resets, &[("reason", reason.label())]).increment(1);
            Some(Reset { reason: reason.label(), from: ids.first().map(EventId::to_string) })
        }
    };
    let own = match since {
        Some(Since::After(id)) if reset.is_none() => Some(id),
        _ => None,
    };
    let last = ids.last().copied();
    HistoryPage {
        channel,
        events,
        // With nothing left to read, the position is the head.
        position: last.or(own).or(page.head).map(|id| id.to_string()),
        head: page.head.map(|id| id.to_string()),
        reset,
        more: last.is_some() && last != page.head,
    }
}

/// Skips entries that are not logged events: another program wrote them into the log.
fn entry(raw: Bytes) -> Option<(EventId, Box<RawValue>)> {
    let event = Event::parse(raw).ok()?;
    let raw = RawValue::from_string(Cow::from(event.text()).into_owned()).ok()?;
    Some((event.id()?, raw))
}
