use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crewcast_events::Owner;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::{Algorithm, BrokerKind, LogFormat, Sharded, Size, form::Form, parse_duration};

fn read<T: Form>(text: &str) -> Option<T> {
    T::read(&json!(text)).ok()
}

#[test]
fn durations_have_units_or_are_whole_seconds() {
    for (written, ms) in [("25s", 25_000), ("500ms", 500), ("24h", 86_400_000), ("2 m", 120_000), ("7", 7000)] {
        assert_eq!(read(written), Some(Duration::from_millis(ms)), "{written}");
        assert_eq!(parse_duration(written), Ok(Duration::from_millis(ms)), "{written}");
    }
    for nonsense in ["", "s", "-1s", "1.5s", "25 seconds", "99999999999999999999s", "99999999999999999d"] {
        assert_eq!(read::<Duration>(nonsense), None, "{nonsense}");
    }
    assert_eq!(Duration::from_secs(86_400).write(), "1d");
    assert_eq!(Duration::from_millis(1500).write(), "1500ms");
    assert_eq!(Duration::ZERO.write(), "0s");
}

#[test]
fn sizes_have_units_or_are_bytes() {
    for (written, bytes) in [("1MiB", 1 << 20), ("4 KiB", 4096), ("17", 17), ("17B", 17), ("2GiB", 2 << 30)] {
        assert_eq!(read(written), Some(Size(bytes)), "{written}");
    }
    for nonsense in ["1MB", "MiB", "-1", "1.5MiB"] {
        assert_eq!(read::<Size>(nonsense), None, "{nonsense}");
    }
    assert_eq!(Size(512 << 20).write(), "512MiB");
    assert_eq!(Size(1000).write(), 1000);
    assert_eq!(Size(0).write(), 0);
}

#[test]
fn every_form_reads_what_it_writes() {
    fn check<T: Form + PartialEq + Debug>(values: &[&str]) {
        for value in values {
            let read = read::<T>(value).expect(value);
            assert_eq!(T::read(&read.write()), Ok(read));
        }
    }
    check::<Algorithm>(&["HS256", "HS512", "RS384", "PS512", "ES256", "ES384", "EdDSA"]);
    check::<IpNet>(&["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"]);
    check::<SocketAddr>(&["0.0.0.0:8000", "[::]:9090"]);
    check::<Option<Owner>>(&["crew", "run", "stream", "session", "org", "none"]);
    check::<BrokerKind>(&["redis", "memory"]);
    check::<Sharded>(&["auto", "never"]);
    check::<LogFormat>(&["text", "json"]);
    check::<Option<bool>>(&["true", " false "]);
    check::<Vec<u32>>(&["1, 2", ""]);
    assert_eq!(read::<IpNet>("127.0.0.1"), Some(IpNet::from(IpAddr::from([127, 0, 0, 1]))));
}

#[test]
fn toml_may_use_its_own_types_and_no_others() {
    assert_eq!(Duration::read(&json!(3)), Ok(Duration::from_secs(3)));
    assert_eq!(Size::read(&json!(4096)), Ok(Size(4096)));
    assert_eq!(bool::read(&json!(true)), Ok(true));
    assert_eq!(bool::read(&json!(1)), Err("1 is not true or false".to_owned()));
    assert_eq!(BrokerKind::read(&json!(0)), Err("0 is not redis or memory".to_owned()));
    assert_eq!(usize::read(&json!(1.5)), Err("1.5 is not a whole number".to_owned()));
    assert_eq!(String::read(&json!(["a"])), Err("expected a text".to_owned()));
    assert_eq!(Vec::<String>::read(&json!(["a, b", "c"])), Ok(vec!["a, b".to_owned(), "c".to_owned()]));
    assert_eq!(usize::read(&Value::Null), Err("expected a whole number".to_owned()));
}
