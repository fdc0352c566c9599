//! What an event is about, so that newer progress can replace older progress of the same subject.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The subject of an event: the raw JSON of the fields that identify it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subject<'a> {
    /// One tool call: `run_id` and `call_id`.
    Call([Option<&'a str>; 2]),
    /// One task: `task_id`.
    Task(&'a str),
    /// One execution: `stream_id` and `execution_id`.
    Execution([Option<&'a str>; 2]),
    /// The calls of one tool whose producer writes no `call_id`: `crew_id`, `run_id`, `agent_id`, `session_id` and
    /// `tool`. A start or an end separates one such call from the next.
    UnnamedCall([Option<&'a str>; 5]),
}

/// The fields of one event that identify its subject.
#[derive(Deserialize)]
pub struct SubjectFields<'a> {
    #[serde(borrow)]
    call_id: Option<&'a RawValue>,
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

impl<'a> SubjectFields<'a> {
    /// Reads the fields of an event.
    ///
    /// # Errors
    /// The text is not a JSON object, or a field that identifies the subject stands twice in it.
    pub fn of(event: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(event)
    }

    /// The subject; `None` if the event names none.
    pub fn subject(&self) -> Option<Subject<'a>> {
        // Events of the dialect `hub` name their task in `data`. In other events `data` may hold anything.
        let inner = || {
            let data = self.data.filter(|data| data.get().starts_with('{'))?;
            serde_json::from_str::<Data<'a>>(data.get()).ok()?.task_id
        };
        if self.call_id.is_some() {
            Some(Subject::Call([self.run_id, self.call_id].map(text)))
        } else if let Some(task) = self.task_id.or_else(inner) {
            Some(Subject::Task(task.get()))
        } else if self.execution_id.is_some() {
            Some(Subject::Execution([self.stream_id, self.execution_id].map(text)))
        } else {
            self.unnamed_call()
        }
    }

    /// The calls of the event's tool that have no `call_id`; `None` if the event names no tool.
    pub fn unnamed_call(&self) -> Option<Subject<'a>> {
        self.tool?;
        let call = [self.crew_id, self.run_id, self.agent_id, self.session_id, self.tool];
        Some(Subject::UnnamedCall(call.map(text)))
    }
}

fn text(field: Option<&RawValue>) -> Option<&str> {
    field.map(RawValue::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(event: &str) -> Option<Subject<'_>> {
        SubjectFields::of(event).unwrap().subject()
    }

    #[test]
    fn the_most_specific_field_identifies_the_subject() {
        let call = r#"{"run_id":"r","agent_id":"a","tool":"search","task_id":"t","call_id":"c"}"#;
        assert_eq!(subject(call), Some(Subject::Call([Some(r#""r""#), Some(r#""c""#)])));
        let unnamed = r#"{"run_id":"r","agent_id":"a","tool":"search","call_id":null}"#;
        let fields = [None, Some(r#""r""#), Some(r#""a""#), None, Some(r#""search""#)];
        assert_eq!(subject(unnamed), Some(Subject::UnnamedCall(fields)));
        assert_eq!(subject(r#"{"data":{"task_id":"t"}}"#), Some(Subject::Task(r#""t""#)));
        assert_eq!(subject(r#"{"agent_id":"a","data":[1]}"#), None);
        assert!(SubjectFields::of(r#"{"call_id":"a","call_id":"b"}"#).is_err());
    }
}
