use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::wire::mark::{LENGTH, Mark};

/// The content of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The end of a tool call, padded to this many bytes.
    Padded(usize),
    /// Events of several types, about 400 bytes each, like those of a crew.
    Typical,
}

/// An event without its mark.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    mark_at: usize,
}

/// The placeholder of the mark.
const PLACE: &str = "~~~~~~~~~~~~~~~~~~~~~~~~~~~";

impl Template {
    fn new(text: &str) -> Self {
        let mark_at = text.find(PLACE).expect("every template has a placeholder for the mark");
        Self { bytes: text.as_bytes().to_vec(), mark_at }
    }

    /// Writes the mark, and returns the event.
    pub(crate) fn marked(&mut self, mark: Mark) -> &[u8] {
        mark.write(&mut self.bytes[self.mark_at..self.mark_at + LENGTH]);
        &self.bytes
    }
}

impl Body {
    /// The events of a channel, published in turns.
    pub(crate) fn templates(self, channel: usize) -> Vec<Template> {
        match self {
            Self::Padded(size) => vec![padded(size, channel)],
            Self::Typical => typical(channel),
        }
    }
}

fn padded(size: usize, channel: usize) -> Template {
    let event = |fill: &str| {
        format!(r#"{{"type":"tool_end","crew_id":"c{channel}","run_id":"r1","agent_id":"a1","tool":"search","#)
            + &format!(r#""mark":"{PLACE}","status":"success","exit_code":0,"duration_s":1.25,"output":"{fill}"}}"#)
    };
    let fill = size.saturating_sub(event("").len());
    Template::new(&event(&"x".repeat(fill)))
}

fn typical(channel: usize) -> Vec<Template> {
    let crew = format!("c{channel}");
    let head = |kind: &str, agent: &str, tool: &str| {
        format!(r#"{{"type":"{kind}","timestamp":"2026-03-01T12:34:56.789Z","crew_id":"{crew}","#)
            + &format!(r#""run_id":"run-20260301-7f3a9c","agent_id":"{agent}","tool":"{tool}","mark":"{PLACE}","#)
    };
    let rest = [
        (
            "tool_start",
            "researcher",
            "web_search",
            json!({"params": {
            "query": "tide tables Bay of Fundy spring 2026, differences between Saint John and Burntcoat Head",
            "max_results": 20, "language": "en", "sites": ["tides.gc.ca", "noaa.gov"], "safe": true }}),
        ),
        (
            "tool_progress",
            "researcher",
            "web_search",
            json!({
            "message": "Read 7 of 20 pages; 3 of them hold tables, 2 could not be parsed and will be tried again later \
                        with another reader", "progress": 0.35, "pages": {"read": 7, "tables": 3, "failed": 2} }),
        ),
        (
            "tool_end",
            "analyst",
            "python",
            json!({
            "status": "success", "exit_code": 0, "duration_s": 12.481, "output":
            "mean range 11.7 m, largest 16.3 m on 2026-03-20; residuals below 0.12 m for 94.6 % of 8,760 hours; \
             plot written to /tmp/out/fundy.svg" }),
        ),
        (
            "tool_start",
            "writer",
            "file_write",
            json!({"params": {
            "path": "reports/2026/fundy/summary.md", "mode": "append", "content":
            "## Spring tides\n\nThe largest range of the year is expected on 20 March. \
             See table 3 for hourly levels." }}),
        ),
    ];
    let event = |(kind, agent, tool, fields): &(&str, &str, &str, serde_json::Value)| {
        let fields = fields.to_string();
        Template::new(&format!("{}{}", head(kind, agent, tool), &fields[1..]))
    };
    rest.iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_with_a_mark_and_of_the_size_asked_for() {
        let mark = Mark { number: 5, time: 7 };
        for size in [200, 1000] {
            let mut template = Body::Padded(size).templates(3).remove(0);
            assert_eq!(template.marked(mark).len(), size);
        }
        for mut template in Body::Typical.templates(3).into_iter().chain(Body::Padded(0).templates(3)) {
            let event: serde_json::Value = serde_json::from_slice(template.marked(mark)).unwrap();
            assert_eq!(event["crew_id"], "c3");
            assert_eq!(Mark::at(event["mark"].as_str().unwrap().as_bytes()), Some(mark));
        }
    }

    #[test]
    fn typical_events_have_about_four_hundred_bytes() {
        for mut template in Body::Typical.templates(3) {
            let length = template.marked(Mark { number: 0, time: 0 }).len();
            assert!((330..470).contains(&length), "{length}");
        }
    }
}
