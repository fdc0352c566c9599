//! Published lines, and the errors for lines that cannot be published.

use std::sync::Mutex;

use bytes::Bytes;
use clap::Parser;
use crewcast_events::EventId;
use crewcast_publisher::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome};

use super::*;
use crate::cli::{Cli, Command};

/// Records its calls, and fails with the given errors.
#[derive(Default)]
struct Recorder {
    appends: Mutex<Vec<Append>>,
    live: Mutex<Vec<Bytes>>,
    failures: Mutex<Vec<AppendError>>,
}

#[async_trait::async_trait]
impl Transport for Recorder {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let mut appends = self.appends.lock().unwrap();
        appends.push(append.clone());
        match self.failures.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(vec![Some(EventId::after(None, append.entries[0].random))]),
        }
    }

    async fn publish_live(&self, _: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.live.lock().unwrap().push(message);
        Ok(())
    }

    async fn register(&self, _: &Ownership, _: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        Ok(OwnershipOutcome::Done)
    }
}

fn sender(once: Dedup) -> (Arc<Recorder>, Sender) {
    let recorder = Arc::new(Recorder::default());
    (recorder.clone(), Sender::new(recorder, "graph:abc".parse().unwrap(), once))
}

fn onces(recorder: &Recorder) -> Vec<String> {
    recorder.appends.lock().unwrap().iter().map(|append| format!("{:?}", append.once)).collect()
}

async fn lines(text: &str, limit: usize, sender: &mut Sender) -> (Result<(), CliError>, usize) {
    let mut printed = 0;
    let result = from_lines(text.as_bytes(), limit, sender, |_| {
        printed += 1;
        Ok(Pipe::Open)
    });
    let result = result.await;
    (result, printed)
}

#[tokio::test]
async fn each_line_is_an_event_and_blank_lines_are_skipped() {
    let (recorder, mut sender) = sender(Dedup::Sequence);
    let (result, printed) = lines("{\"type\":\"a\"}\r\n\n  {\"type\":\"b\"}", 100, &mut sender).await;
    result.unwrap();
    assert_eq!(printed, 2);
    let appends = recorder.appends.lock().unwrap();
    let bodies: Vec<_> = appends.iter().map(|append| append.entries[0].body.object().clone()).collect();
    assert_eq!(bodies, [&b"{\"type\":\"a\"}"[..], b"{\"type\":\"b\"}"]);
}

#[tokio::test]
async fn a_bad_line_is_named_and_ends_the_command() {
    let (recorder, mut sender) = sender(Dedup::Sequence);
    let (result, printed) =
        lines("{\"type\":\"a\"}\n\n{\"id\":1,\"type\":\"b\"}\n{\"type\":\"c\"}\n", 100, &mut sender).await;
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with("line 3: a logged event has no \"id\""), "{error}");
    assert_eq!((printed, recorder.appends.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_line_is_bounded() {
    let event = |n: usize| format!("{{\"type\":\"{}\"}}", "x".repeat(n - 11));
    for (text, fits) in [
        (event(40), true),
        (event(40) + "\n", true),
        (event(40) + "\r\n", true),
        (event(41), false),
        (event(41) + "\n", false),
        (" ".repeat(10_000), false),
    ] {
        let (_, mut sender) = sender(Dedup::Sequence);
        let (result, _) = lines(&text, 40, &mut sender).await;
        assert_eq!(result.is_ok(), fits, "{text:?}: {result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unanswered_events_are_retried_with_the_same_identity() {
    let (recorder, mut sender) = sender(Dedup::Sequence);
    *recorder.failures.lock().unwrap() = vec![AppendError::Unavailable("away".to_owned()); 3];
    lines("{\"type\":\"a\"}\n{\"type\":\"b\"}\n", 100, &mut sender).await.0.unwrap();
    let onces = onces(&recorder);
    assert_eq!(onces.len(), 5);
    assert!(onces[..4].iter().all(|once| *once == onces[0]), "{onces:?}");
    assert!(onces[4].ends_with("first: 2 }"), "{onces:?}");
    let appends = recorder.appends.lock().unwrap();
    assert!(appends[..4].iter().all(|append| append.entries[0].random == appends[0].entries[0].random));
}

#[tokio::test(start_paused = true)]
async fn retries_end_after_15_seconds() {
    let (recorder, mut sender) = sender(Dedup::Sequence);
    *recorder.failures.lock().unwrap() = vec![AppendError::Unavailable("away".to_owned()); 1000];
    let start = tokio::time::Instant::now();
    let (result, printed) = lines("{\"type\":\"a\"}\n", 100, &mut sender).await;
    assert!(matches!(result, Err(CliError::Unreachable(_))));
    assert_eq!((printed, start.elapsed().as_secs() / 5), (0, 2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_unknown_producer_goes_on_under_a_new_name() {
    let (recorder, mut sender) = sender(Dedup::Sequence);
    lines("{\"type\":\"a\"}\n", 100, &mut sender).await.0.unwrap();
    *recorder.failures.lock().unwrap() = vec![AppendError::Gap { expected: 1 }];
    lines("{\"type\":\"b\"}\n", 100, &mut sender).await.0.unwrap();
    let onces = onces(&recorder);
    assert!(onces[1].ends_with("first: 2 }") && onces[2].ends_with("first: 1 }"), "{onces:?}");
    assert_ne!(onces[0], onces[2], "under another name");
}

#[tokio::test]
async fn keys_are_numbered_by_line() {
    let (recorder, mut sender) = sender(Dedup::Key("k".to_owned()));
    lines("{\"type\":\"a\"}\n\n{\"type\":\"b\"}\n", 100, &mut sender).await.0.unwrap();
    sender.send(b"{\"type\":\"c\"}".to_vec(), None, None).await.unwrap();
    let onces = onces(&recorder);
    assert!(onces[0].contains("\"k-1\"") && onces[1].contains("\"k-3\"") && onces[2].contains("\"k\""), "{onces:?}");
}

#[tokio::test]
async fn live_events_are_validated_and_sent_unchanged() {
    let (recorder, mut sender) = sender(Dedup::Live);
    let text = "{ \"id\":1, \"type\":\"a\",\"n\":1.50}";
    assert_eq!(sender.send(text.into(), None, None).await.unwrap(), None);
    assert_eq!(*recorder.live.lock().unwrap(), [text]);
    assert!(matches!(sender.send(b"{}".to_vec(), None, None).await, Err(CliError::Failed(_))));
}

#[test]
fn a_lease_has_a_name_and_perhaps_a_ttl() {
    let wire = |text: &str| lease(text).map(|step| step.wire());
    assert_eq!(wire("s1").as_deref(), Ok("hold 30000 s1 "));
    assert_eq!(wire("session:s1").as_deref(), Ok("hold 30000 session:s1 "));
    assert_eq!(wire("call:7").as_deref(), Ok("hold 30000 call:7 "));
    assert_eq!(wire("session:s1:2m").as_deref(), Ok("hold 120000 session:s1 "));
    assert_eq!(wire("s1:end").as_deref(), Ok("release 0 s1"));
    assert!(wire("").is_err() && wire("a b").is_err() && wire("s1:2h").is_err());
}

#[test]
fn a_state_is_json_and_an_empty_value_removes_it() {
    let of = |key: &str, json: &str| state((key.to_owned(), json.to_owned()));
    assert_eq!(of("a", "{\"n\": 1.50}").unwrap().value.unwrap().get(), "{\"n\": 1.50}");
    assert!(of("a", "").unwrap().value.is_none());
    assert!(of("a", "idle").unwrap_err().to_string().contains("quotes"));
}

#[test]
fn parses_the_command_line() {
    let parse = |words: &[&str]| {
        let cli = Cli::try_parse_from([&["crewcast", "publish"], words].concat())?;
        let Command::Publish(args) = cli.command else { panic!() };
        Ok::<_, clap::Error>(args)
    };
    let args = parse(&["graph:abc", "{\"type\":\"x\"}", "--state", "agent=\"busy\""]).unwrap();
    assert_eq!((args.channel.as_str(), args.state.unwrap().1.as_str()), ("graph:abc", "\"busy\""));
    assert!(parse(&["graph:abc", "--live", "--key", "k"]).is_err());
    assert!(parse(&["graph:abc", "{}", "--live", "--lease", "s1"]).is_err());
    assert!(parse(&["graph:a b"]).unwrap_err().to_string().contains("[A-Za-z0-9._-]"));
}
