//! Renders an event as one human-readable line.

use crewcast_events::{Channel, Event, Field, timestamp};
use serde_json::Value;

/// The fields that are shown, in this order and under these names. `--json` shows all fields.
const SHOWN: [(&str, &str); 18] = [
    ("/agent_id", "agent"),
    ("/agent", "name"),
    ("/task", "task"),
    ("/task_id", ""),
    ("/tool", "tool"),
    // Pairs the lines of one call. Without it, agent and tool do.
    ("/call_id", "call"),
    ("/params", "params"),
    ("/status", ""),
    ("/payload/status", ""),
    ("/progress", "progress"),
    ("/duration_s", "took"),
    ("/exit_code", "exit"),
    ("/code", "code"),
    ("/inputs", "inputs"),
    ("/output", "output"),
    ("/message", ""),
    ("/error", "error"),
    ("/run_id", "run"),
];
/// Longest value that is shown, in characters.
const MAX_VALUE: usize = 72;
/// Longest remark, in characters: a close reason (at most 123 bytes by RFC 6455) and the text around it.
const MAX_REMARK: usize = 400;
const TIME_OF_DAY: std::ops::Range<usize> = 11..23;

/// Time, channel, type and a few fields. The line cannot move a terminal's cursor.
pub(crate) fn event(channel: &str, event: &Event) -> String {
    let at = event.field(Field::Timestamp).and_then(|text| timestamp::parse(&text));
    let at = at.map_or_else(timestamp::now, |since| timestamp::format(std::time::UNIX_EPOCH + since));
    let time = at.get(TIME_OF_DAY).unwrap_or(&at);
    let mut line = format!("{time} {channel} {}", printable(&event.kind()));
    let Ok(fields) = serde_json::from_slice::<Value>(event.raw()) else { return line };
    let run = channel.parse::<Channel>().ok().filter(|channel| channel.namespace() == "run");
    for (path, name) in SHOWN {
        let Some(value) = fields.pointer(path).and_then(|value| shown(name, value)) else { continue };
        // On the run's own channel, every line would repeat it.
        if path == "/run_id" && run.as_ref().is_some_and(|run| run.id() == value) {
            continue;
        }
        line.push(' ');
        if !name.is_empty() {
            line.push_str(name);
            line.push('=');
        }
        line.push_str(&value);
    }
    line
}

fn shown(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) if name.is_empty() || !text.contains(char::is_whitespace) => Some(printable(text)),
        Value::Number(number) if name == "progress" => number.as_f64().map(|part| format!("{:.0}%", part * 100.0)),
        Value::Number(number) if name == "took" => number.as_f64().map(|seconds| format!("{seconds:.1}s")),
        Value::Object(fields) if fields.is_empty() => None,
        other => Some(printable(&other.to_string())),
    }
}

/// Makes text from a gateway or a webhook safe to print.
pub(crate) fn remark(text: &str) -> String {
    bounded(text, MAX_REMARK)
}

fn printable(text: &str) -> String {
    bounded(text, MAX_VALUE)
}

/// Replaces unsafe characters and cuts the text to `longest` characters.
fn bounded(text: &str, longest: usize) -> String {
    let mut shown: String = text.chars().take(longest).map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether `c` is neither a control character nor one that changes the direction of the text.
fn is_safe(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn line(channel: &str, text: &str) -> String {
        event(channel, &Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
    }

    #[test]
    fn shows_the_important_fields() {
        let at = r#""timestamp":"2026-11-20T08:15:30.5+00:00""#;
        let start = format!(
            r#"{{"id":"1-000000aaaaaa","type":"tool_start",{at},"crew_id":"abc","run_id":"r1",
                "agent_id":"a1","tool":"search","params":{{"q":"tides"}}}}"#
        );
        assert_eq!(
            line("graph:abc", &start),
            r#"08:15:30.500 graph:abc tool_start agent=a1 tool=search params={"q":"tides"} run=r1"#
        );
        let end =
            format!(r#"{{"type":"tool_end",{at},"tool":"search","status":"error","duration_s":1.25,"exit_code":2}}"#);
        assert_eq!(line("graph:abc", &end), "08:15:30.500 graph:abc tool_end tool=search error took=1.2s exit=2");
        let progress = format!(r#"{{"type":"tool_progress",{at},"message":"3 of 10 pages","progress":0.3}}"#);
        assert_eq!(line("graph:abc", &progress), "08:15:30.500 graph:abc tool_progress progress=30% 3 of 10 pages");
        let done = format!(r#"{{"type":"done",{at},"run_id":"r1","status":"success"}}"#);
        assert_eq!(line("run:r1", &done), "08:15:30.500 run:r1 done success");
        let signal = format!(r#"{{"type":"signal",{at},"payload":{{"status":"busy","crewId":"abc"}}}}"#);
        assert_eq!(line("mission:abc", &signal), "08:15:30.500 mission:abc signal busy");
    }

    #[test]
    fn the_lines_of_parallel_calls_show_which_call_they_belong_to() {
        let shown = |kind: &str, call: &str| {
            let text = format!(
                r#"{{"type":"tool_{kind}","timestamp":"2026-11-20T08:15:30Z","agent_id":"a1","tool":"search","call_id":{call}}}"#
            );
            line("graph:abc", &text)
        };
        assert_eq!(shown("start", r#""c1""#), "08:15:30.000 graph:abc tool_start agent=a1 tool=search call=c1");
        assert_eq!(shown("end", r#""c2""#), "08:15:30.000 graph:abc tool_end agent=a1 tool=search call=c2");
        assert_eq!(shown("end", "null"), "08:15:30.000 graph:abc tool_end agent=a1 tool=search");
    }

    #[test]
    fn an_event_without_a_time_shows_the_current_time() {
        for text in [r#"{"type":"x"}"#, r#"{"type":"x","timestamp":"yesterday"}"#, r#"{"type":"x","timestamp":7}"#] {
            let line = line("graph:abc", text);
            assert!(line.ends_with(" graph:abc x") && line.len() == "00:00:00.000 graph:abc x".len(), "{line}");
        }
    }

    #[test]
    fn control_characters_are_replaced_and_lines_are_bounded() {
        let text = r#"{"type":"x\u202ey","message":"\u001b[2Jgone\nnext","tool":"a\u0007"}"#;
        let shown = line("graph:abc", text);
        assert!(shown.chars().all(is_safe), "{shown:?}");
        let long = line("graph:abc", &format!(r#"{{"type":"x","message":"{}"}}"#, "é".repeat(5000)));
        assert!(long.chars().count() < 110 && long.ends_with('…'), "{long}");
    }
}
