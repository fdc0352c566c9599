//! `GET /api/v1/channels/{channel}/events`: what a channel's log holds, page by page, with the rules of resuming
//! of a socket.

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
pub const MAX_LIMIT: usize = 1000;
const DEFAULT_LIMIT: usize = 100;

/// What may be asked.
#[derive(Debug, Deserialize)]
pub struct HistoryQuery {
    /// The last id that the caller saw, or `0`; without it: from wherever the log begins.
    after: Option<String>,
    limit: Option<usize>,
}

/// One page.
#[derive(Debug, Serialize)]
pub struct HistoryPage {
    channel: String,
    /// As they were published, byte for byte.
    events: Vec<Box<RawValue>>,
    /// Ask for the next page after this id; `null` while the channel has never had an event.
    position: Option<String>,
    /// The last id of the channel.
    head: Option<String>,
    /// The caller's `after` does not lead on to these events.
    reset: Option<Reset>,
    /// Whether the log holds events behind `position`.
    more: bool,
}

/// What a socket is told in `reset`.
#[derive(Debug, Serialize)]
pub struct Reset {
    reason: &'static str,
    /// The first id of what follows.
    from: Option<String>,
}

/// Reads one page of a channel's log.
///
/// # Errors
/// As a problem document.
pub async fn history(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    name: Result<Path<String>, PathRejection>,
    asked: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<HistoryPage>, Problem> {
    // A path that is not UTF-8 names no channel.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let channel = channel(&name, &app.config.namespaces)?;
    let Query(asked) = asked.map_err(|_| bad_limit())?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad_limit());
    }
    if !app.auth.may_read(&identity, &channel).await? {
        return Err(Problem::new(ProblemType::Forbidden, format!("the token does not grant {channel}")));
    }
    let since = asked.after.map(|after| after.parse().unwrap_or(Since::Unknown));
    let mut page = app.broker.log.history(&channel, offset_of(since), limit).await?;
    let mut resumed = resumed(since, &page);
    if matches!(resumed, Resumed::Reset(_)) && offset_of(since) > 0 {
        page = app.broker.log.history(&channel, 0, limit).await?;
        // A channel that was given up for another meanwhile is still a reset.
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
        // With nothing left to read the head is where to wait.
        position: last.or(own).or(page.head).map(|id| id.to_string()),
        head: page.head.map(|id| id.to_string()),
        reset,
        more: last.is_some() && last != page.head,
    }
}

/// What stands in a log and is no logged event was put there by somebody else: it is passed over.
fn entry(raw: Bytes) -> Option<(EventId, Box<RawValue>)> {
    let event = Event::parse(raw).ok()?;
    let raw = RawValue::from_string(Cow::from(event.text()).into_owned()).ok()?;
    Some((event.id()?, raw))
}
