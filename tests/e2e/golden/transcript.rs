//! Parses transcripts. `tests/golden/README.md` describes their lines.

use serde_json::{Value, value::RawValue};

/// One file.
pub(super) struct Transcript {
    pub settings: Vec<(String, String)>,
    pub lines: Vec<Line>,
}

/// One line with an action.
pub(super) struct Line {
    /// The number of the line, from 1.
    pub number: usize,
    pub text: String,
    pub step: Step,
}

pub(super) enum Step {
    Token(Value),
    Register {
        kind: String,
        id: String,
        org: String,
        crew: Option<String>,
    },
    Get(String),
    Send(String),
    Receive(String),
    Until(String),
    /// For `state`, the key of a document and the document.
    Publish {
        channel: String,
        event: String,
        live: bool,
        state: Option<(String, String)>,
    },
    Quiet,
    Close {
        code: u16,
        reason: String,
    },
}

impl Transcript {
    /// Parses a file. An error names the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut transcript = Self { settings: Vec::new(), lines: Vec::new() };
        for (n, line) in text.lines().enumerate() {
            let number = n + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if word == "set" {
                let (key, value) = rest.split_once(' ').ok_or(format!("line {number}: set <VARIABLE> <value>"))?;
                transcript.settings.push((key.to_owned(), value.to_owned()));
                continue;
            }
            let step = Step::parse(word, rest).ok_or(format!("line {number} is not a step of a transcript: {line}"))?;
            transcript.lines.push(Line { number, text: line.to_owned(), step });
        }
        Ok(transcript)
    }
}

impl Step {
    fn parse(word: &str, rest: &str) -> Option<Self> {
        let text = rest.to_owned();
        Some(match word {
            "token" => Step::Token(serde_json::from_str(rest).ok()?),
            "register" => {
                let mut words = rest.split(' ').map(str::to_owned);
                Step::Register { kind: words.next()?, id: words.next()?, org: words.next()?, crew: words.next() }
            }
            "GET" => Step::Get(text),
            ">" => Step::Send(text),
            "<" => Step::Receive(text),
            "until" => Step::Until(text),
            "publish" | "live" => {
                let (channel, event) = rest.split_once(' ')?;
                let (channel, event) = (channel.to_owned(), event.to_owned());
                Step::Publish { channel, event, live: word == "live", state: None }
            }
            "state" => {
                let (channel, rest) = rest.split_once(' ')?;
                let (key, rest) = rest.split_once(' ')?;
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
                let (document, event) = (values.next()?.ok()?.get().to_owned(), values.next()?.ok()?.get().to_owned());
                Step::Publish {
                    channel: channel.to_owned(),
                    event,
                    live: false,
                    state: Some((key.to_owned(), document)),
                }
            }
            "quiet" => Step::Quiet,
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Step::Close { code: code.parse().ok()?, reason: reason.to_owned() }
            }
            _ => return None,
        })
    }
}
