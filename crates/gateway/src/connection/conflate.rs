//! Conflation for lagging readers: newer progress of the same subject replaces older progress.
//!
//! Applies only in namespaces with `skip_progress`, and only within one batch of entries. Starts, ends, errors and
//! every other event that is not progress are kept, and so is the newest progress of each subject.

use std::{collections::HashSet, sync::Arc};

use crewcast_events::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hub::Entry;

/// The suffix of the types of progress events.
const PROGRESS: &str = "_progress";

/// Says for each entry whether a newer one replaces it. `entries`: the oldest first. The last entry is never replaced.
pub(super) fn conflated(entries: &[Arc<Entry>], may_conflate: impl Fn(&Event) -> bool) -> Vec<bool> {
    let mut newer = HashSet::new();
    let mut flags: Vec<bool> =
        entries.iter().rev().map(|entry| is_outdated(entry, &mut newer, &may_conflate)).collect();
    flags.reverse();
    flags
}

/// The subject of a progress event, and the event's type.
type ProgressKey<'a> = (Subject<'a>, String);

/// Whether an entry is progress that `newer` holds already. Call it with the entries from the newest to the oldest.
fn is_outdated<'a>(
    entry: &'a Entry,
    newer: &mut HashSet<ProgressKey<'a>>,
    may_conflate: impl Fn(&Event) -> bool,
) -> bool {
    let Some(event) = entry.event() else {
        // A `reset` or a `gap` may hide the start or the end of a call.
        newer.clear();
        return false;
    };
    let Ok(subject) = Subject::of(event) else {
        newer.clear();
        return false;
    };
    let Some(subject) = subject else { return false };
    let kind = event.kind();
    if kind.ends_with(PROGRESS) {
        return may_conflate(event) && !newer.insert((subject, kind.into_owned()));
    }
    // Calls of one tool by one agent have no id: a start or an end separates the progress of one call from that of the
    // next.
    if matches!(subject, Subject::Call(_)) {
        newer.retain(|(other, _)| *other != subject);
    }
    false
}

/// What an event is about: the raw JSON of the fields that identify it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject<'a> {
    /// `task_id`.
    Task(&'a str),
    /// `stream_id` and `execution_id`.
    Execution([Option<&'a str>; 2]),
    /// `crew_id`, `run_id`, `agent_id`, `session_id` and `tool`.
    Call([Option<&'a str>; 5]),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    stream_id: Option<&'a RawValue>,
    #[serde(borrow)]
    execution_id: Option<&'a RawValue>,
    #[serde(borrow)]
    crew_id: Option<&'a RawValue>,
    #[serde(borrow)]
    run_id: Option<&'a RawValue>,
    #[serde(borrow)]
    agent_id: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    tool: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
}

impl<'a> Subject<'a> {
    /// The subject; `None` if the event names none.
    ///
    /// # Errors
    /// A field that identifies the subject stands twice in the event.
    fn of(event: &'a Event) -> Result<Option<Self>, serde_json::Error> {
        let fields: Fields<'a> = serde_json::from_str(event.text())?;
        let text = |field: Option<&'a RawValue>| field.map(RawValue::get);
        // Events of the dialect `hub` name their task in `data`. In other events `data` may hold anything.
        let inner = fields.data.and_then(|data| serde_json::from_str::<Data<'a>>(data.get()).ok()?.task_id);
        Ok(if let Some(task) = text(fields.task_id).or(text(inner)) {
            Some(Subject::Task(task))
        } else if fields.execution_id.is_some() {
            Some(Subject::Execution([fields.stream_id, fields.execution_id].map(text)))
        } else if fields.tool.is_some() {
            let call = [fields.crew_id, fields.run_id, fields.agent_id, fields.session_id, fields.tool];
            Some(Subject::Call(call.map(text)))
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::hub::Item;

    fn entries(events: &[Value]) -> Vec<Arc<Entry>> {
        let entry = |event: &Value| {
            if event.is_null() {
                return Arc::new(Entry::new(Item::Gap { missed: None }, None));
            }
            Arc::new(Entry::new(Item::Event(Event::parse(Bytes::from(event.to_string())).unwrap()), None))
        };
        events.iter().map(entry).collect()
    }

    /// The indices of the events that are kept.
    fn kept(events: &[Value]) -> Vec<usize> {
        let flags = conflated(&entries(events), |_| true);
        (0..events.len()).filter(|n| !flags[*n]).collect()
    }

    fn tool(kind: &str, tool: &str) -> Value {
        json!({ "type": format!("tool_{kind}"), "run_id": "r", "agent_id": "a", "tool": tool })
    }

    #[test]
    fn the_newest_progress_of_a_call_is_kept() {
        let (search, shell) = (tool("progress", "search"), tool("progress", "shell"));
        let events = [tool("start", "search"), search.clone(), shell.clone(), search.clone(), search, shell];
        assert_eq!(kept(&events), [0, 4, 5]);
    }

    #[test]
    fn starts_and_ends_separate_the_calls_of_one_tool() {
        let progress = tool("progress", "search");
        let events = [&progress, &progress, &tool("end", "search"), &tool("start", "search"), &progress, &progress]
            .map(Value::clone);
        assert_eq!(kept(&events), [1, 2, 3, 5]);
    }

    #[test]
    fn tasks_and_executions_are_distinguished_by_their_ids() {
        let task = |kind: &str, id: &str| json!({ "type": format!("task_{kind}"), "data": { "task_id": id } });
        assert_eq!(
            kept(&[task("progress", "1"), task("progress", "2"), task("assigned", "1"), task("progress", "1")]),
            [1, 2, 3]
        );
        let goal = |id: &str| json!({ "type": "goal_progress", "stream_id": "s", "execution_id": id });
        let node = json!({ "type": "node_executed", "stream_id": "s", "execution_id": "1" });
        assert_eq!(kept(&[goal("1"), node, goal("2"), goal("1")]), [1, 2, 3]);
    }

    #[test]
    fn progress_without_a_subject_is_kept() {
        let loose = json!({ "type": "x_progress", "agent_id": "a" });
        assert_eq!(kept(&[loose.clone(), loose]), [0, 1]);
        let progress = tool("progress", "search");
        assert_eq!(kept(&[progress.clone(), Value::Null, progress.clone()]), [0, 1, 2], "not across a gap");
        let other = json!({ "type": "upload_progress", "run_id": "r", "agent_id": "a", "tool": "search" });
        assert_eq!(kept(&[other, progress.clone(), progress]), [0, 2], "each type separately");
        let twice = Event::parse(Bytes::from_static(br#"{"type":"a_progress","tool":"a","tool":"b"}"#)).unwrap();
        let twice = Arc::new(Entry::new(Item::Event(twice), None));
        assert_eq!(conflated(&[twice.clone(), twice], |_| true), [false, false]);
    }

    #[test]
    fn events_that_the_dialect_does_not_conflate_are_kept() {
        let progress = tool("progress", "search");
        assert_eq!(conflated(&entries(&[progress.clone(), progress]), |_| false), [false, false]);
    }

    fn any_event() -> impl Strategy<Value = Value> {
        let kind = prop::sample::select(vec!["tool_start", "tool_progress", "tool_end", "error", "other_progress"]);
        let names = (prop::option::of("[ab]"), prop::option::of("[xy]"), prop::option::of("[12]"));
        (kind, names).prop_map(|(kind, (run, tool, task))| {
            let mut event = json!({ "type": kind });
            for (key, value) in [("run_id", run), ("tool", tool), ("task_id", task)] {
                if let Some(value) = value {
                    event[key] = json!(value);
                }
            }
            event
        })
    }

    /// The type and the subject, as the documentation describes them.
    fn progress_key(event: &Value) -> Option<(&Value, Vec<&Value>)> {
        let about = match (event.get("task_id"), event.get("tool")) {
            (Some(task), _) => vec![task],
            (None, Some(tool)) => vec![tool, &event["run_id"]],
            (None, None) => return None,
        };
        Some((&event["type"], about))
    }

    proptest! {
        #[test]
        fn only_outdated_progress_is_left_out(events in prop::collection::vec(any_event(), 0..80)) {
            let is_progress = |event: &Value| event["type"].as_str().unwrap().ends_with(PROGRESS);
            let flags = conflated(&entries(&events), |_| true);
            prop_assert_eq!(flags.len(), events.len());
            for (n, event) in events.iter().enumerate().filter(|(n, _)| flags[*n]) {
                prop_assert!(is_progress(event), "{}", event);
                prop_assert!(progress_key(event).is_some(), "{}", event);
                let is_same = |later: &usize| progress_key(&events[*later]) == progress_key(event);
                let newer = (n + 1..events.len()).find(|later| is_same(later) && !flags[*later]);
                prop_assert!(newer.is_some(), "{} at {}", event, n);
            }
            for (n, event) in events.iter().enumerate() {
                let is_newest = !events[n + 1..].iter().any(|later| progress_key(later) == progress_key(event));
                prop_assert!(!(is_newest && flags[n]), "{} at {}", event, n);
            }
        }
    }
}
