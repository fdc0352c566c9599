//! What live events of producers that only know PUBLISH leave behind, so that sockets that open later see it.
//!
//! One replica writes it for all of them (`redis/live_retention`). Every write is idempotent: a replica that takes over
//! repeats what its predecessor may have written, and nothing is counted twice.
//!
//! | channel | event | leaves |
//! |---|---|---|
//! | namespace with `retain` | any | the retained value |
//! | `agents`, `tasks`, `metrics` | with an agent, a task, a set | its state document, as typed emitters write it |
//! | `knowledge` | with `counts`, or a new node or edge | the state document with the counts |
//! | these four | any | one of the channel's last events |
//! | `tracking` | `active_sessions`; `session_state` | the last message; the last message of the session |
//! | `tracking`, `session` | `session_logs`, `session_log` | one of the session's last messages |
//! | `session` | `session_state` | the session's state document |

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use crewcast_events::{
    Channel, Event, Namespace,
    catalog::{forge::knowledge::COUNTS, session::STATE_KEY},
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

/// Most messages of one list.
pub(crate) const LINES: usize = 500;
/// Largest message of a list, in bytes.
pub(crate) const LINE_BYTES: usize = 64 << 10;
/// The name of the last `active_sessions` message of `tracking:<org>`.
pub(crate) const ACTIVE_SESSIONS: &str = "active_sessions";
/// The name of a channel's last events.
pub(crate) const LAST_EVENTS: &str = "events";
/// The name of the last lines of `session:<id>`.
pub(crate) const SESSION: &str = "session";

/// The name of a session in `tracking:<org>`.
pub(crate) fn session_name(id: &str) -> String {
    format!("{SESSION}:{id}")
}

/// Whether no message of the dialect `tracking` comes of this event.
pub(crate) fn is_not_shown(namespace: &str, kind: &str) -> bool {
    let lease = matches!(kind, "stalled" | "lost" | "recovered");
    let session = matches!(kind, "session_state" | "session_log" | "session_logs");
    match namespace {
        "tracking" => {
            let agent = matches!(kind, "agent_status" | "agent_collaboration");
            !(lease || session || agent || matches!(kind, ACTIVE_SESSIONS | "session_changed"))
        }
        "session" => !(lease || session || matches!(kind, "session_started" | "session_ended")),
        _ => false,
    }
}

/// What was captured under one name of a channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Live {
    /// The last message.
    pub last: Option<Bytes>,
    /// The last messages of a list, oldest first.
    pub lines: Vec<Bytes>,
}

/// What one event leaves.
#[derive(Clone, Debug)]
pub(crate) enum Captured {
    /// The retained value.
    Retained,
    /// A change of a state document.
    Document { key: String, change: DocumentChange },
    /// The last message of this name.
    Last { name: String },
    /// One of the last messages of this name.
    Line { name: String },
    /// A node or an edge: each is counted once.
    Counted { what: Counted, item: String },
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Counted {
    Nodes,
    Edges,
}

impl Counted {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Counted::Nodes => "nodes",
            Counted::Edges => "edges",
        }
    }
}

type ObjectFields = BTreeMap<String, Box<RawValue>>;

/// A change of a document.
#[derive(Clone, Debug)]
pub(crate) enum DocumentChange {
    Set(Box<RawValue>),
    /// These fields replace those of the document.
    Merge(ObjectFields),
    Remove,
}

impl DocumentChange {
    /// This change and the one before it, as one.
    pub(crate) fn after(self, earlier: &DocumentChange) -> DocumentChange {
        match (earlier, self) {
            (DocumentChange::Set(old), DocumentChange::Merge(new)) => set(merged(old.get(), &new)),
            (DocumentChange::Remove, DocumentChange::Merge(new)) => set(new),
            (DocumentChange::Merge(old), DocumentChange::Merge(new)) => {
                DocumentChange::Merge(old.clone().into_iter().chain(new).collect())
            }
            (_, last) => last,
        }
    }

    /// The document after the change, or `None` if the change removes it.
    pub(crate) fn apply(&self, old: Option<&str>) -> Option<Box<RawValue>> {
        match self {
            DocumentChange::Set(document) => Some(document.clone()),
            DocumentChange::Merge(new) => to_raw_value(&merged(old.unwrap_or("{}"), new)).ok(),
            DocumentChange::Remove => None,
        }
    }
}

fn set(fields: ObjectFields) -> DocumentChange {
    to_raw_value(&fields).map_or(DocumentChange::Merge(fields), DocumentChange::Set)
}

fn merged(old: &str, new: &ObjectFields) -> ObjectFields {
    let mut fields: ObjectFields = serde_json::from_str(old).unwrap_or_default();
    fields.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
    fields
}

/// What a live event leaves in its channel.
pub(crate) fn captured(channel: &Channel, rules: &Namespace, event: &Event) -> Vec<Captured> {
    if !rules.capture_live {
        return Vec::new();
    }
    let mut all: Vec<Captured> = rules.retain.then_some(Captured::Retained).into_iter().collect();
    if event.id().is_some() {
        return all;
    }
    let kind = event.kind();
    match channel.namespace() {
        "agents" => all.extend(agent(&kind, event)),
        "tasks" => all.extend(task(&kind, event)),
        "knowledge" => all.extend(knowledge(&kind, event)),
        "metrics" => all.extend(metrics(&kind, event)),
        "tracking" => all.extend(tracking(&kind, event)),
        "session" => all.extend(session(&kind, event)),
        _ => return all,
    }
    if matches!(channel.namespace(), "agents" | "tasks" | "knowledge" | "metrics") {
        all.push(Captured::Line { name: LAST_EVENTS.to_owned() });
    }
    all.retain(|captured| !matches!(captured, Captured::Line { .. }) || event.raw().len() <= LINE_BYTES);
    all
}

/// The object that an event is about: its `data`, or else the event itself.
fn item(event: &Event) -> ObjectFields {
    let mut whole: ObjectFields = serde_json::from_str(event.text()).unwrap_or_default();
    let data = whole.get("data").and_then(|data| serde_json::from_str(data.get()).ok());
    data.unwrap_or_else(|| {
        whole.remove("type");
        whole
    })
}

/// A text or a number, as a text.
fn text(fields: &ObjectFields, key: &str) -> Option<String> {
    let raw = fields.get(key)?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

fn agent(kind: &str, event: &Event) -> Option<Captured> {
    let mut fields = item(event);
    let key = text(&fields, "agent_id")?;
    if let Some(status) = fields.remove("new_status") {
        fields.remove("old_status");
        fields.insert("status".to_owned(), status);
    }
    let change = match kind {
        "agent_created" => set(fields),
        "agent_deleted" => DocumentChange::Remove,
        _ => DocumentChange::Merge(fields),
    };
    Some(Captured::Document { key, change })
}

fn task(kind: &str, event: &Event) -> Option<Captured> {
    let mut fields = item(event);
    let key = text(&fields, "task_id")?;
    if !fields.contains_key("status") && matches!(kind, "task_started" | "task_progress") {
        fields.insert("status".to_owned(), to_raw_value("running").ok()?);
    }
    let change = match kind {
        "task_started" => set(fields),
        "task_completed" | "task_failed" => DocumentChange::Remove,
        _ => DocumentChange::Merge(fields),
    };
    Some(Captured::Document { key, change })
}

fn knowledge(kind: &str, event: &Event) -> Option<Captured> {
    let mut fields = item(event);
    if let Some(counts) = fields.remove("counts") {
        return Some(Captured::Document { key: COUNTS.to_owned(), change: DocumentChange::Set(counts) });
    }
    let own = || text(&fields, "id");
    let (what, item) = match kind {
        "node_added" => (Counted::Nodes, text(&fields, "node_id").or_else(own)?),
        "edge_added" => {
            let ends = || Some([text(&fields, "source")?, text(&fields, "target")?].join("\n"));
            let relation = text(&fields, "relation").unwrap_or_default();
            (Counted::Edges, ends().map(|ends| format!("{ends}\n{relation}")).or_else(own)?)
        }
        _ => return None,
    };
    Some(Captured::Counted { what, item })
}

fn metrics(kind: &str, event: &Event) -> Vec<Captured> {
    let document = |key: String, figures| Captured::Document { key, change: DocumentChange::Set(figures) };
    let fields = item(event);
    if kind == "metrics" && fields.values().all(|figures| figures.get().starts_with('{')) {
        return fields.into_iter().map(|(key, figures)| document(key, figures)).collect();
    }
    let set = match kind.strip_suffix("_metrics") {
        Some("task") => "tasks",
        Some("agent") => "agents",
        Some(set) => set,
        None => kind,
    };
    to_raw_value(&fields).into_iter().map(|figures| document(set.to_owned(), figures)).collect()
}

#[derive(Deserialize)]
struct OfSession<'a> {
    #[serde(borrow)]
    session_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
}

fn tracking(kind: &str, event: &Event) -> Option<Captured> {
    if kind == ACTIVE_SESSIONS {
        return Some(Captured::Last { name: ACTIVE_SESSIONS.to_owned() });
    }
    let message: OfSession<'_> = serde_json::from_str(event.text()).ok()?;
    let id = message.session_id?;
    let name = session_name(Channel::new(SESSION, &id).ok()?.id());
    match kind {
        "session_state" => message.state.map(|_| Captured::Last { name }),
        "session_logs" | "session_log" => Some(Captured::Line { name }),
        _ => None,
    }
}

fn session(kind: &str, event: &Event) -> Option<Captured> {
    match kind {
        "session_state" => {
            let message: OfSession<'_> = serde_json::from_str(event.text()).ok()?;
            let change = DocumentChange::Set(message.state?.to_owned());
            Some(Captured::Document { key: STATE_KEY.to_owned(), change })
        }
        "session_logs" | "session_log" => Some(Captured::Line { name: SESSION.to_owned() }),
        _ => None,
    }
}

/// The state in a `session_state` message.
pub(crate) fn state_of(message: &[u8]) -> Option<Bytes> {
    let message: OfSession<'_> = serde_json::from_slice(message).ok()?;
    Some(Bytes::copy_from_slice(message.state?.get().as_bytes()))
}

/// The lines in `session_logs` and `session_log` messages, oldest first. Producers that send the whole log each time
/// repeat lines: each is listed once.
pub(crate) fn lines_of(messages: &[Bytes]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Logs<'a> {
        #[serde(borrow)]
        logs: Vec<&'a RawValue>,
    }
    let mut seen = std::collections::HashSet::new();
    let mut lines = Vec::new();
    for message in messages {
        let of_batch = serde_json::from_slice::<Logs<'_>>(message).map(|batch| batch.logs);
        let one = || serde_json::from_slice::<&RawValue>(message).into_iter().collect();
        for line in of_batch.unwrap_or_else(|_| one()) {
            if seen.insert(line.get()) {
                lines.push(line.get().to_owned());
            }
        }
    }
    let surplus = lines.len().saturating_sub(LINES);
    lines.split_off(surplus)
}

#[cfg(test)]
mod tests {
    use crewcast_events::Namespaces;

    use super::*;

    fn documents(channel: &str, events: &[&str]) -> BTreeMap<String, String> {
        let channel: Channel = channel.parse().unwrap();
        let namespaces = Namespaces::default();
        let rules = namespaces.of(&channel).unwrap();
        let mut documents = BTreeMap::<String, String>::new();
        for text in events {
            let event = Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
            for captured in captured(&channel, rules, &event) {
                if let Captured::Document { key, change } = captured {
                    match change.apply(documents.get(&key).map(String::as_str)) {
                        Some(document) => documents.insert(key, document.get().to_owned()),
                        None => documents.remove(&key),
                    };
                }
            }
        }
        documents
    }

    fn document(key: &str, text: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), text.to_owned())].into()
    }

    #[test]
    fn agents_and_tasks_have_a_document_until_they_end() {
        let created = r#"{"type":"agent_created","data":{"agent_id":"a1","name":"R","status":"idle"}}"#;
        let changed = r#"{"type":"status_changed","data":{"agent_id":"a1","old_status":"idle","new_status":"busy"}}"#;
        let deleted = r#"{"type":"agent_deleted","agent_id":"a1"}"#;
        let busy = r#"{"agent_id":"a1","name":"R","status":"busy"}"#;
        assert_eq!(documents("agents:acme", &[created, changed]), document("a1", busy));
        assert!(documents("agents:acme", &[created, changed, deleted]).is_empty());
        let started = r#"{"type":"task_started","data":{"task_id":7,"name":"t"}}"#;
        let progress = r#"{"type":"task_progress","data":{"task_id":7,"percentage":40.0}}"#;
        let running = r#"{"name":"t","percentage":40.0,"status":"running","task_id":7}"#;
        assert_eq!(documents("tasks:acme", &[started, progress]), document("7", running));
        let failed = r#"{"type":"task_failed","data":{"task_id":7,"error":"e"}}"#;
        assert!(documents("tasks:acme", &[started, progress, failed]).is_empty());
    }

    #[test]
    fn successive_changes_are_one() {
        let fields = |text: &str| serde_json::from_str::<ObjectFields>(text).unwrap();
        let merge = DocumentChange::Merge(fields(r#"{"b":2}"#));
        let both =
            |earlier: DocumentChange| merge.clone().after(&earlier).apply(Some(r#"{"z":1}"#)).unwrap().get().to_owned();
        assert_eq!(both(set(fields(r#"{"a":1}"#))), r#"{"a":1,"b":2}"#);
        assert_eq!(both(DocumentChange::Remove), r#"{"b":2}"#);
        assert_eq!(both(DocumentChange::Merge(fields(r#"{"c":3}"#))), r#"{"b":2,"c":3,"z":1}"#);
    }

    #[test]
    fn every_metric_set_has_a_document() {
        let events = [
            r#"{"type":"system_metrics","data":{"cpu":1.50}}"#,
            r#"{"type":"gpu","data":{"load":9}}"#,
            r#"{"type":"metrics","data":{"tasks":{"done":1},"queue":{"length":2}}}"#,
        ];
        let documents = documents("metrics:acme", &events);
        let expected = [("gpu", r#"{"load":9}"#), ("queue", r#"{"length":2}"#), ("system", r#"{"cpu":1.50}"#)];
        let expected = expected.into_iter().chain([("tasks", r#"{"done":1}"#)]);
        assert_eq!(documents, expected.map(|(key, text)| (key.to_owned(), text.to_owned())).collect());
    }

    #[test]
    fn lines_of_messages_are_listed_once() {
        let messages = [
            r#"{"type":"session_logs","logs":[{"n":1}]}"#,
            r#"{"type":"session_logs","logs":[{"n":1},{"n":2}]}"#,
            r#"{"type":"session_log","n":3}"#,
        ];
        let messages = messages.map(|text| Bytes::from_static(text.as_bytes()));
        assert_eq!(lines_of(&messages), [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"type":"session_log","n":3}"#]);
    }
}
