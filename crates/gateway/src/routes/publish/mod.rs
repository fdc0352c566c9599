//! `POST /api/v1/publish`: one event, or many as NDJSON, into logs or live.
//!
//! Everything is checked before anything is published: a body with one invalid line, or one channel that the token
//! does not grant, publishes nothing. Only a failure of the broker can leave a request partly published. The answer
//! then tells how much was published.

mod body;

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
};
use crewcast_events::{Channel, EventId};
use crewcast_store::{Append, Entry, MAX_ENTRIES, Once, Transport, random_half};
use serde::Serialize;

use self::body::{How, PublishItem, PublishRules};
use super::{
    body::{at_line, read, text},
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::{app::App, publishing::NotAdmitted};

pub(crate) use self::body::channel;

/// Media types of NDJSON. None of them is registered.
const NDJSON: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// The ids, in the order of the lines. `null` for a live event, and for an event whose key is known but whose id is no
/// longer stored.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Published {
    ids: Vec<Option<String>>,
}

/// Publishes the events of the body.
///
/// # Errors
/// A problem document. A 503 in the middle carries `accepted` (lines) and their `ids`.
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, Problem> {
    let body = read(&app.limits, body).await?;
    let rules = PublishRules { namespaces: &app.config.namespaces, max_event: app.config.limits.message.0 };
    let items = body::parse(text(&body)?, is_ndjson(&headers), rules)?;
    let channels: Vec<&Channel> = items.iter().map(|item| &item.channel).collect();
    app.shared.publishing.admit(&identity, &channels).await.map_err(|error| not_admitted(error, &items))?;
    send(&*app.broker.transport, &identity.sub, items).await.map(Json)
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    NDJSON.iter().any(|name| essence.eq_ignore_ascii_case(name))
}

fn not_admitted(error: NotAdmitted, items: &[PublishItem]) -> Problem {
    let forbidden = |index: usize, detail| at_line(Problem::new(ProblemType::Forbidden, detail), items[index].line);
    match error {
        NotAdmitted::NotGranted { index } => {
            forbidden(index, format!("the token's claim \"publish\" does not grant {}", items[index].channel))
        }
        NotAdmitted::OwnedByAnother { index, ownership } => {
            forbidden(index, format!("the {} {} belongs to another org", ownership.kind.as_str(), ownership.id))
        }
        NotAdmitted::Directory(error) => error.into(),
        NotAdmitted::Registration(error) => error.into(),
    }
}

/// One call to the broker.
enum PublishStep {
    Live(Channel, bytes::Bytes),
    Logged(Append),
}

/// Publishes in the order of the lines, one call after the other, so that no event overtakes a failed one.
async fn send(transport: &dyn Transport, sub: &str, items: Vec<PublishItem>) -> Result<Published, Problem> {
    let mut published = Published::default();
    for step in steps(sub, items) {
        let outcome = match &step {
            PublishStep::Live(channel, event) => {
                transport.publish_live(channel, event.clone()).await.map(|()| vec![None])
            }
            PublishStep::Logged(append) => transport.append(append).await,
        };
        match outcome {
            Ok(ids) => published.ids.extend(ids.into_iter().map(|id: Option<EventId>| id.map(|id| id.to_string()))),
            Err(error) => {
                let accepted = published.ids.len();
                return Err(Problem::from(error).with("accepted", accepted).with("ids", published.ids));
            }
        }
    }
    Ok(published)
}

/// Joins neighbouring events of one channel into one append. An idempotency key stands for one event, so an event with
/// a key goes alone.
fn steps(sub: &str, items: Vec<PublishItem>) -> Vec<PublishStep> {
    let mut steps: Vec<PublishStep> = Vec::new();
    for PublishItem { channel, how, .. } in items {
        let (body, state, lease, key) = match how {
            How::Live(event) => {
                steps.push(PublishStep::Live(channel, event));
                continue;
            }
            How::Logged { body, state, lease, key } => (body, state, lease, key),
        };
        let entry = Entry { body, random: random_half(), state, lease };
        let once = match key {
            Some(key) => Once::Key { sub: sub.to_owned(), key },
            None => Once::No,
        };
        match steps.last_mut() {
            Some(PublishStep::Logged(last)) if joins(last, &channel, &once) => last.entries.push(entry),
            _ => steps.push(PublishStep::Logged(Append { channel, entries: vec![entry], once })),
        }
    }
    steps
}

fn joins(last: &Append, channel: &Channel, once: &Once) -> bool {
    last.channel == *channel && last.entries.len() < MAX_ENTRIES && matches!((&last.once, once), (Once::No, Once::No))
}
