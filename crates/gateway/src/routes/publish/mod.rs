//! `POST /api/v1/publish`: one event, or many as NDJSON, into logs or live.
//!
//! Everything is checked before anything is published: a body with one bad line, or one channel that the token
//! does not grant, publishes nothing. Only a broker that fails on the way leaves a part behind, and the answer
//! then says how large a part.

mod body;

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
};
use crewcast_events::{Channel, EventId, Owner};
use crewcast_store::{Append, Entry, MAX_ENTRIES, Once, OwnershipMode, OwnershipOutcome, random_half};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use self::body::{How, PublishItem, PublishRules};
use super::{
    body::{at_line, read, text},
    caller::Caller,
    problem::{Problem, ProblemType},
};
use crate::{app::App, auth::Identity, broker::Broker};

pub use self::body::channel;

/// Media types of NDJSON, none of which is registered.
const NDJSON: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// Ids of one request that are claimed at the same time.
const CLAIMS: usize = 16;

/// The ids in the order of the lines; `null` for a live event, and for one whose key is known but whose id is not
/// any more.
#[derive(Debug, Default, Serialize)]
pub struct Published {
    ids: Vec<Option<String>>,
}

/// Publishes what the body holds.
///
/// # Errors
/// As a problem document; 503 in the middle carries `accepted` (lines) and their `ids`.
pub async fn publish(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, Problem> {
    let body = read(&app.limits, body).await?;
    let rules = PublishRules { namespaces: &app.config.namespaces, max_event: app.config.limits.message };
    let items = body::parse(text(&body)?, is_ndjson(&headers), rules)?;
    granted(&app, &identity, &items).await?;
    register_ids(&app, &identity, &items).await?;
    send(app.broker.as_ref(), &identity.sub, items).await.map(Json)
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    NDJSON.iter().any(|name| essence.eq_ignore_ascii_case(name))
}

/// Asks for each channel once.
async fn granted(app: &App, identity: &Identity, items: &[PublishItem]) -> Result<(), Problem> {
    let mut asked: HashSet<&Channel> = HashSet::new();
    for item in items {
        if asked.insert(&item.channel) && !app.auth.may_publish(identity, &item.channel).await? {
            let detail = format!("the token's claim \"publish\" does not grant {}", item.channel);
            return Err(at_line(Problem::new(ProblemType::Forbidden, detail), item.line));
        }
    }
    Ok(())
}

/// Claims for the token's org what nobody owns yet, each id once, before anything is published: of two orgs that
/// publish the same new id the first keeps it.
async fn register_ids(app: &App, identity: &Identity, items: &[PublishItem]) -> Result<(), Problem> {
    let mut asked: HashSet<(Option<Owner>, &str)> = HashSet::new();
    let owner = |item: &PublishItem| app.config.namespaces.of(&item.channel).and_then(|rules| rules.owner);
    let fresh = items.iter().filter(|item| asked.insert((owner(item), item.channel.id())));
    let claimed = futures_util::stream::iter(fresh.map(Ok)).try_for_each_concurrent(CLAIMS, |item| async move {
        let Some(ownership) = app.auth.required_claim(identity, &item.channel).await? else { return Ok(()) };
        match app.broker.register(&ownership, OwnershipMode::Keep).await? {
            OwnershipOutcome::Done => Ok(()),
            OwnershipOutcome::OwnedBy(_) => {
                let detail = format!("the {} {} belongs to another org", ownership.kind.as_str(), ownership.id);
                Err(at_line(Problem::new(ProblemType::Forbidden, detail), item.line))
            }
        }
    });
    claimed.await
}

/// What goes to the broker in one call.
enum PublishStep {
    Live(Channel, bytes::Bytes),
    Logged(Append),
}

/// Publishes in the order of the lines, one call after the other: nothing overtakes a failed predecessor.
async fn send(broker: &dyn Broker, sub: &str, items: Vec<PublishItem>) -> Result<Published, Problem> {
    let mut published = Published::default();
    for step in steps(sub, items) {
        let outcome = match &step {
            PublishStep::Live(channel, event) => broker.publish_live(channel, event.clone()).await.map(|()| vec![None]),
            PublishStep::Logged(append) => broker.append(append).await,
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

/// Gathers neighbours of one channel into appends; a key stands for one event, so that its event goes alone.
fn steps(sub: &str, items: Vec<PublishItem>) -> Vec<PublishStep> {
    let mut steps: Vec<PublishStep> = Vec::new();
    for PublishItem { channel, how, .. } in items {
        let (body, state, key) = match how {
            How::Live(event) => {
                steps.push(PublishStep::Live(channel, event));
                continue;
            }
            How::Logged { body, state, key } => (body, state, key),
        };
        let entry = Entry { body, random: random_half(), state, lease: None };
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
