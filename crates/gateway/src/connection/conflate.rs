//! Conflation for lagging readers: newer progress of the same subject replaces older progress.
//!
//! Applies only in namespaces with `skip_progress`, and only within one batch of entries. Starts, ends, errors and
//! every other event that is not progress are kept, and so is the newest progress of each subject.

use std::{collections::HashSet, sync::Arc};

use crewcast_events::{Event, Subject, SubjectFields};

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
    let Ok(fields) = SubjectFields::of(event.text()) else {
        newer.clear();
        return false;
    };
    let kind = event.kind();
    if kind.ends_with(PROGRESS) {
        let Some(subject) = fields.subject() else { return false };
        return may_conflate(event) && !newer.insert((subject, kind.into_owned()));
    }
    // A start or an end separates the progress of one call without an id from that of the next.
    if let Some(calls) = fields.unnamed_call() {
        newer.retain(|(subject, _)| *subject != calls);
    }
    false
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
    fn parallel_calls_of_one_tool_are_distinguished_by_their_ids() {
        let call = |kind: &str, id: &str| {
            let mut event = tool(kind, "search");
            event["call_id"] = json!(id);
            event
        };
        let events = [
            call("start", "1"),
            call("progress", "1"),
            call("start", "2"),
            call("progress", "2"),
            call("progress", "1"),
            call("progress", "2"),
            call("end", "1"),
            call("progress", "2"),
            call("end", "2"),
        ];
        assert_eq!(kept(&events), [0, 2, 4, 6, 7, 8]);
        let unnamed = tool("progress", "search");
        let mixed = [unnamed.clone(), unnamed.clone(), call("end", "1"), unnamed.clone(), unnamed];
        assert_eq!(kept(&mixed), [1, 2, 4], "an end with an id still separates progress without one");
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
        let name = |pattern: &'static str| prop::option::of(pattern);
        let names = (name("[ab]"), name("[xy]"), name("[12]"), name("[12]"));
        (kind, names).prop_map(|(kind, (run, tool, task, call))| {
            let mut event = json!({ "type": kind });
            for (key, value) in [("run_id", run), ("tool", tool), ("task_id", task), ("call_id", call)] {
                if let Some(value) = value {
                    event[key] = json!(value);
                }
            }
            event
        })
    }

    /// The type and the subject, as the documentation describes them.
    fn progress_key(event: &Value) -> Option<(&Value, &str, Vec<&Value>)> {
        let named = ["call_id", "task_id", "tool"].into_iter().find(|name| event.get(name).is_some())?;
        let about = if named == "task_id" { vec![&event[named]] } else { vec![&event[named], &event["run_id"]] };
        Some((&event["type"], named, about))
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
