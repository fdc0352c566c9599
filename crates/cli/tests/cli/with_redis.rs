//! Commands that use Redis, against a real one.

use crate::support::{self, Redis};
use crewcast_events::{Channel, EventId, Keys, Kind};

fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

#[test]
fn publishing_prints_ids_and_fills_the_log() {
    let redis = Redis::start();
    let one = redis.crewcast(&["publish", "graph:abc", r#"{"type":"a","n":1.50}"#]);
    assert_eq!(one.code, Some(0), "{one:?}");
    let two = redis.crewcast_with(&["publish", "graph:abc"], "{\"type\":\"b\"}\n\n{\"type\":\"c\"}\n");
    let ids: Vec<EventId> = one.out.lines().chain(two.out.lines()).map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0].continues(None) && ids[1].continues(Some(ids[0])) && ids[2].continues(Some(ids[1])));
    let log: Vec<String> = redis.ask(&["LRANGE", &Keys::default().log(&channel("graph:abc")), "0", "-1"]);
    assert_eq!(log[0], format!(r#"{{"id":"{}","type":"a","n":1.50}}"#, ids[0]));
    assert_eq!(log.len(), 3);
}

#[test]
fn a_key_publishes_once_and_state_is_set_with_the_event() {
    let redis = Redis::start();
    let publish =
        || redis.crewcast(&["publish", "run:r1", r#"{"type":"done"}"#, "--key", "k", "--state", "phase=\"over\""]);
    let (first, second) = (publish(), publish());
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{second:?}");
    assert_eq!(first.out, second.out);
    let keys = Keys::default();
    assert_eq!(redis.ask::<u64>(&["LLEN", &keys.log(&channel("run:r1"))]), 1);
    assert_eq!(redis.ask::<String>(&["HGET", &keys.state(&channel("run:r1")), "phase"]), "\"over\"");
}

#[test]
fn a_live_event_is_sent_unchanged_and_stores_nothing() {
    let redis = Redis::start();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let mut subscription = connection.as_pubsub();
    subscription.subscribe("graph:abc").unwrap();
    let output = redis.crewcast(&["publish", "graph:abc", r#"{ "type":"a" }"#, "--live"]);
    assert_eq!((output.code, output.out.as_str()), (Some(0), ""), "{output:?}");
    let received: String = subscription.get_message().unwrap().get_payload().unwrap();
    assert_eq!(received, r#"{ "type":"a" }"#);
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]), 0);
}

#[test]
fn invalid_events_are_refused_with_their_line() {
    let redis = Redis::start();
    let bad = redis.crewcast(&["publish", "graph:abc", r#"{"id":1,"type":"a"}"#]);
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("Rename the field"), "{bad:?}");
    let half = redis.crewcast_with(&["publish", "graph:abc"], "{\"type\":\"a\"}\nhello\n{\"type\":\"b\"}\n");
    assert_eq!((half.code, half.out.lines().count()), (Some(1), 1));
    assert!(half.err.contains("line 2"), "{half:?}");
    let unknown = redis.crewcast(&["publish", "nothing:abc", r#"{"type":"a"}"#]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
}

#[test]
fn the_first_owner_stays_until_the_id_is_moved() {
    let redis = Redis::start();
    let register = |more: &[&str]| redis.crewcast(&[&["register", "crew", "abc"], more].concat());
    assert_eq!(register(&["--org", "acme"]).out, "crew abc belongs to acme");
    let refused = register(&["--org", "other"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--move") && refused.err.contains("acme"), "{refused:?}");
    assert_eq!(register(&["--org", "other", "--remove"]).code, Some(1));
    assert_eq!(register(&["--org", "other", "--move"]).out, "crew abc belongs to other");
    let entry = Keys::default().directory_entry(Kind::Crew, "abc");
    assert_eq!(redis.ask::<String>(&["HGET", &entry, "org"]), "other");
    assert_eq!(register(&["--org", "other", "--remove"]).out, "crew abc is removed");
    assert_eq!(redis.ask::<u64>(&["EXISTS", &entry]), 0);
}

#[test]
fn a_revocation_is_remembered() {
    let redis = Redis::start();
    let output = redis.crewcast(&["token", "revoke", "--jti", "j1", "--for", "1h"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let sub = redis.crewcast(&["token", "revoke", "--sub", "u1"]);
    assert_eq!(sub.code, Some(0), "{sub:?}");
    let fields: Vec<String> = redis.ask(&["HKEYS", &Keys::default().revocations()]);
    assert!(fields.contains(&"jti:j1".to_owned()) && fields.contains(&"sub:u1".to_owned()), "{fields:?}");
}

#[test]
fn check_says_what_is_wrong_and_changes_nothing() {
    let redis = Redis::start();
    let secret = "auth.hs256_secret=0123456789abcdef0123456789abcdef";
    let good = redis.crewcast(&["check", "--set", secret]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.contains("came back in") && !good.out.contains("WRONG"), "{good:?}");
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]), 0);

    let keyless = redis.crewcast(&["check"]);
    assert_eq!(keyless.code, Some(1));
    assert!(keyless.out.contains("WRONG  auth"), "{keyless:?}");

    let _: String = redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let evicting = redis.crewcast(&["check", "--set", secret]);
    assert_eq!(evicting.code, Some(1));
    assert!(evicting.out.contains("CONFIG SET maxmemory-policy noeviction"), "{evicting:?}");
    assert!(evicting.out.contains("came back in"), "the other tests still run: {evicting:?}");
}

#[test]
fn check_without_subscriptions_or_scripts_names_what_the_user_needs() {
    let redis = Redis::start();
    let _: String =
        redis.ask(&["ACL", "SETUSER", "poor", "on", ">pw", "~*", "resetchannels", "+@all", "-eval", "-psubscribe"]);
    let url = redis.url().replace("redis://", "redis://poor:pw@");
    let mut check = support::crewcast(&["check", "--set", "auth.hs256_secret=0123456789abcdef0123456789abcdef"]);
    let output = support::run(check.env("CREWCAST_REDIS_URL", url), "");
    assert_eq!(output.code, Some(1));
    assert!(output.out.contains("EVALSHA") && output.out.contains("allchannels"), "{output:?}");
    assert!(!format!("{output:?}").contains(":pw"), "{output:?}");
}

#[test]
fn an_unreachable_redis_has_its_own_exit_code() {
    let unreachable = |arguments: &[&str]| {
        support::run(support::crewcast(arguments).env("CREWCAST_REDIS_URL", "redis://:hunter2@127.0.0.1:1"), "")
    };
    for arguments in [&["register", "crew", "abc", "--org", "acme"][..], &["token", "revoke", "--jti", "j"]] {
        let output = unreachable(arguments);
        assert_eq!(output.code, Some(3), "{output:?}");
        assert!(output.err.contains("crewcast check"), "{output:?}");
        assert!(!output.err.contains("hunter2"), "{output:?}");
    }
    let check = unreachable(&["check"]);
    assert_eq!(check.code, Some(1));
    assert!(check.out.contains("WRONG  Redis cannot be used") && !check.out.contains("hunter2"), "{check:?}");
}
