//! Ids, channel names and positions: each line of the input is one of them, and all readers get each.
#![no_main]

use crewcast_events::{Channel, EventId, Resumed, Since, is_id, is_namespace, resume};
use libfuzzer_sys::fuzz_target;

fn check_channel(text: &str) {
    let Ok(channel) = text.parse::<Channel>() else {
        assert!(!text.split_once(':').is_some_and(|(namespace, id)| is_namespace(namespace) && is_id(id)));
        return;
    };
    assert_eq!(channel.as_str(), text);
    assert!(text.is_ascii() && !text.contains(['{', '}', '*', ' ']), "safe in keys and patterns");
    assert_eq!(Channel::new(channel.namespace(), channel.id()).as_ref(), Ok(&channel));
}

fn check_id(text: &str) -> Option<EventId> {
    let id: EventId = text.parse().ok()?;
    assert_eq!(id.to_string(), text, "one spelling");
    assert!((1..=1 << 53).contains(&id.offset()));
    assert_eq!(EventId::of_message(format!(r#"{{"id":"{id}","type":"x"}}"#).as_bytes()), Some(id));
    let next = EventId::after(Some(id), *b"abcdef");
    assert!(next.continues(Some(id)) && !id.continues(Some(id)) && !next.continues(None));
    Some(id)
}

fn check_since(text: &str, known: &[Option<EventId>]) {
    let since: Since = text.parse().expect("infallible");
    assert_eq!(matches!(since, Since::After(_)), text.parse::<EventId>().is_ok());
    let [at, first, head] = [0, 1, 2].map(|place| known.get(place).copied().flatten());
    let resumed = resume(since, at, first, head);
    match since {
        Since::Unknown => assert!(matches!(resumed, Resumed::Reset(_))),
        Since::After(id) if Some(id) == head => assert_eq!(resumed, Resumed::Gapless),
        _ => {}
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        assert!(EventId::of_message(input).is_none_or(|id| input[7..].starts_with(id.to_string().as_bytes())));
        return;
    };
    let lines: Vec<&str> = text.split('\n').take(8).collect();
    let known: Vec<Option<EventId>> = lines.iter().map(|line| check_id(line)).collect();
    for line in lines {
        check_channel(line);
        check_since(line, &known);
        if let Some(id) = EventId::of_message(line.as_bytes()) {
            assert!(line.starts_with(&format!(r#"{{"id":"{id}","#)));
        }
    }
});
