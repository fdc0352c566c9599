//! Expected text with placeholders for values that differ from run to run.

use std::collections::BTreeMap;

/// The texts that named placeholders stand for.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, String>);

const KINDS: [&str; 6] = ["id", "offset", "number", "timestamp", "seconds", "string"];

/// A piece of an expected line.
enum Piece<'a> {
    Text(&'a str),
    /// `<kind>` or `<kind:name>`: the whole placeholder, and its kind.
    Placeholder(&'a str, &'a str),
}

impl Names {
    /// The text with known placeholders replaced.
    pub(super) fn fill(&self, text: &str) -> String {
        let known = |piece: Piece<'_>| match piece {
            Piece::Text(text) | Piece::Placeholder(text, _) => self.0.get(text).cloned().unwrap_or(text.to_owned()),
        };
        pieces(text).into_iter().map(known).collect()
    }

    /// Compares a message with the expected text and remembers the values of named placeholders.
    ///
    /// # Errors
    /// The message, if it differs.
    pub(super) fn compare(&mut self, expected: &str, got: &str) -> Result<(), String> {
        let mut rest = got;
        let differs = || Err(format!("{:8} {got}", ""));
        for piece in pieces(expected) {
            let taken = match piece {
                Piece::Text(text) => rest.starts_with(text).then_some(text.len()),
                Piece::Placeholder(whole, kind) => match self.0.get(whole) {
                    Some(known) => rest.starts_with(&**known).then_some(known.len()),
                    None => Some(length(kind, rest)).filter(|length| *length > 0),
                },
            };
            let Some(taken) = taken else { return differs() };
            if let Piece::Placeholder(whole, _) = piece
                && whole.contains(':')
            {
                self.0.insert(whole.to_owned(), rest[..taken].to_owned());
            }
            rest = &rest[taken..];
        }
        if rest.is_empty() { Ok(()) } else { differs() }
    }
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = text[at..].find('<').map(|found| at + found) {
        at = open + 1;
        let Some(end) = text[open..].find('>').map(|found| open + found) else { break };
        let inner = &text[open + 1..end];
        let kind = inner.split_once(':').map_or(inner, |(kind, _)| kind);
        if KINDS.contains(&kind) {
            pieces.push(Piece::Text(&text[from..open]));
            pieces.push(Piece::Placeholder(&text[open..=end], kind));
            (from, at) = (end + 1, end + 1);
        }
    }
    pieces.push(Piece::Text(&text[from..]));
    pieces
}

/// The length of the prefix of the text that is of this kind, or 0.
fn length(kind: &str, text: &str) -> usize {
    let while_true = |text: &str, is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    let digits = while_true(text, |c| c.is_ascii_digit());
    match kind {
        "id" => {
            let tag = text[digits..]
                .strip_prefix('-')
                .map_or(0, |tag| while_true(tag, |c| c.is_ascii_digit() || c.is_ascii_lowercase()));
            if digits > 0 && tag == 12 { digits + 1 + tag } else { 0 }
        }
        "timestamp" => {
            let end = while_true(text, |c| c.is_ascii_digit() || "TZ:.+-".contains(c));
            if crewcast_events::timestamp::parse(&text[..end]).is_some() { end } else { 0 }
        }
        "seconds" => {
            let fraction = text[digits..].strip_prefix('.').map_or(0, |rest| while_true(rest, |c| c.is_ascii_digit()));
            if digits > 0 && fraction == 3 { digits + 1 + fraction } else { 0 }
        }
        "string" => while_true(text, |c| c != '"'),
        _ => digits,
    }
}

#[test]
fn expected_text_is_compared_literally_except_for_placeholders() {
    let id = "42-8f3a01b2c3d4";
    let mut names = Names::default();
    assert!(names.compare("a<b>c", "a<b>c").is_ok() && names.compare("a", "ab").is_err());
    let message = format!(r#"{{"at":"2026-03-01T12:00:00Z","id":"{id}","n":7}}"#);
    let pattern = r#"{"at":"<timestamp>","id":"<id:one>","n":<number>}"#;
    assert!(names.compare(pattern, &message).is_ok());
    assert_eq!(names.fill("?since=<id:one>&x=<id>"), format!("?since={id}&x=<id>"));
    assert!(names.compare(pattern, &message.replace("42-", "43-")).is_err(), "a name stands for one text");
    for bad in ["", "42", "42-8f3a", "-8f3a01b2c3d4", "42-8f3a01b2c3d4e", "42-8F3A01B2C3D4"] {
        assert!(names.compare("<id>", bad).is_err(), "{bad}");
    }
    assert!(names.compare("<seconds>,", "1772366402.250,").is_ok());
    for bad in ["1772366402", "1772366402.25", ".250", "1772366402.2501"] {
        assert!(names.compare("<seconds>", bad).is_err(), "{bad}");
    }
    assert!(names.compare("<timestamp>", "yesterday").is_err() && names.compare("<offset>", "x").is_err());
}
