//! What gives way where a reader lags: progress that newer progress of the same thing has made old.
//!
//! Only in namespaces that say so (`skip_progress`), and only within what is read in one go. Starts, ends, errors and all
//! that is no progress stay, and so does the newest progress of each thing.

use std::{collections::HashSet, sync::Arc};

use crewcast_events::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hub::Entry;

/// How the type of an event ends that tells of progress.
const PROGRESS: &str = "_progress";

/// Which of these entries, the oldest first, give way. The last one never does.
pub(super) fn conflated(entries: &[Arc<Entry>], may_conflate: impl Fn(&Event) -> bool) -> Vec<bool> {
    let mut newer = HashSet::new();
    let mut flags: Vec<bool> = entries.iter().rev().map(|entry| is_old(entry, &mut newer, &may_conflate)).collect();
    flags.reverse();
    flags
}

/// The thing whose progress is told, and the type that tells it.
type Told<'a> = (Thing<'a>, String);

/// Whether an entry is progress that is in `newer` already. Comes with the entries from the newest to the oldest.
fn is_old<'a>(entry: &'a Entry, newer: &mut HashSet<Told<'a>>, may_conflate: impl Fn(&Event) -> bool) -> bool {
    let Some(event) = entry.event() else {
        // Behind a `reset` or a `gap` nobody knows what belongs to what.
        newer.clear();
        return false;
    };
    let Ok(thing) = Thing::of(event) else {
        newer.clear();
        return false;
    };
    let Some(thing) = thing else { return false };
    let kind = event.kind();
    if kind.ends_with(PROGRESS) {
        return may_conflate(event) && !newer.insert((thing, kind.into_owned()));
    }
    // Calls of one tool by one agent have no id of their own: what begins or ends one parts its progress from the next one's.
    if matches!(thing, Thing::Call(_)) {
        newer.retain(|(other, _)| *other != thing);
    }
    false
}

/// What an event is about, by the texts of the fields that say so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Thing<'a> {
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

impl<'a> Thing<'a> {
    /// The thing; `None`: the event names none. The error: the event says twice what it is about.
    fn of(event: &'a Event) -> Result<Option<Self>, serde_json::Error> {
        let fields: Fields<'a> = serde_json::from_str(event.text())?;
        let text = |field: Option<&'a RawValue>| field.map(RawValue::get);
        // Events of `hub` name their task in `data`, which others may use as they like.
        let inner = fields.data.and_then(|data| serde_json::from_str::<Data<'a>>(data.get()).ok()?.task_id);
        Ok(if let Some(task) = text(fields.task_id).or(text(inner)) {
            Some(Thing::Task(task))
        } else if fields.execution_id.is_some() {
            Some(Thing::Execution([fields.stream_id, fields.execution_id].map(text)))
        } else if fields.tool.is_some() {
            let call = [fields.crew_id, fields.run_id, fields.agent_id, fields.session_id, fields.tool];
            Some(Thing::Call(call.map(text)))
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

    /// The places of what stays.
    fn stays(events: &[Value]) -> Vec<usize> {
        let flags = conflated(&entries(events), |_| true);
        (0..events.len()).filter(|n| !flags[*n]).collect()
    }

    fn tool(kind: &str, tool: &str) -> Value {
        json!({ "type": format!("tool_{kind}"), "run_id": "r", "agent_id": "a", "tool": tool })
    }

    #[test]
    fn the_newest_progress_of_a_call_stays() {
        let (search, shell) = (tool("progress", "search"), tool("progress", "shell"));
        let events = [tool("start", "search"), search.clone(), shell.clone(), search.clone(), search, shell];
        assert_eq!(stays(&events), [0, 4, 5]);
    }

    #[test]
    fn calls_of_one_tool_are_told_apart_by_their_ends() {
        let progress = tool("progress", "search");
        let events = [&progress, &progress, &tool("end", "search"), &tool("start", "search"), &progress, &progress]
            .map(Value::clone);
        assert_eq!(stays(&events), [1, 2, 3, 5]);
    }

    #[test]
    fn tasks_and_executions_are_known_by_their_ids() {
        let task = |kind: &str, id: &str| json!({ "type": format!("task_{kind}"), "data": { "task_id": id } });
        assert_eq!(
            stays(&[task("progress", "1"), task("progress", "2"), task("assigned", "1"), task("progress", "1")]),
            [1, 2, 3]
        );
        let goal = |id: &str| json!({ "type": "goal_progress", "stream_id": "s", "execution_id": id });
        let node = json!({ "type": "node_executed", "stream_id": "s", "execution_id": "1" });
        assert_eq!(stays(&[goal("1"), node, goal("2"), goal("1")]), [1, 2, 3]);
    }

    #[test]
    fn what_does_not_say_what_it_is_about_stays() {
        let loose = json!({ "type": "x_progress", "agent_id": "a" });
        assert_eq!(stays(&[loose.clone(), loose]), [0, 1]);
        let progress = tool("progress", "search");
        assert_eq!(stays(&[progress.clone(), Value::Null, progress.clone()]), [0, 1, 2], "not across a mark");
        let other = json!({ "type": "upload_progress", "run_id": "r", "agent_id": "a", "tool": "search" });
        assert_eq!(stays(&[other, progress.clone(), progress]), [0, 2], "each type for itself");
        let twice = Event::parse(Bytes::from_static(br#"{"type":"a_progress","tool":"a","tool":"b"}"#)).unwrap();
        let twice = Arc::new(Entry::new(Item::Event(twice), None));
        assert_eq!(conflated(&[twice.clone(), twice], |_| true), [false, false]);
    }

    #[test]
    fn what_a_dialect_wants_kept_stays() {
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

    /// The type and the thing, as the documentation has it.
    fn told(event: &Value) -> Option<(&Value, Vec<&Value>)> {
        let about = match (event.get("task_id"), event.get("tool")) {
            (Some(task), _) => vec![task],
            (None, Some(tool)) => vec![tool, &event["run_id"]],
            (None, None) => return None,
        };
        Some((&event["type"], about))
    }

    proptest! {
        #[test]
        fn nothing_but_old_progress_is_missing(events in prop::collection::vec(any_event(), 0..80)) {
            let is_progress = |event: &Value| event["type"].as_str().unwrap().ends_with(PROGRESS);
            let flags = conflated(&entries(&events), |_| true);
            prop_assert_eq!(flags.len(), events.len());
            for (n, event) in events.iter().enumerate().filter(|(n, _)| flags[*n]) {
                prop_assert!(is_progress(event), "{}", event);
                prop_assert!(told(event).is_some(), "{}", event);
                let newer = (n + 1..events.len()).find(|later| told(&events[*later]) == told(event) && !flags[*later]);
                prop_assert!(newer.is_some(), "{} at {}", event, n);
            }
            for (n, event) in events.iter().enumerate() {
                let is_newest = !events[n + 1..].iter().any(|later| told(later) == told(event));
                prop_assert!(!(is_newest && flags[n]), "{} at {}", event, n);
            }
        }
    }
}
