use super::*;
use crate::auth::{
    Grants, Patterns,
    change_signal::ChangeSignal,
    testing::{FakeRegistry, ownership, user},
};

const ORGS: [&str; 2] = ["acme", "globex"];

/// Two orgs. Each has a crew, a run of that crew, a run without a crew, a stream and a session, named `<org>-<kind>`.
fn setup() -> (Arc<FakeRegistry>, Access) {
    let registry = FakeRegistry::new();
    for org in ORGS {
        for (kind, id) in [
            (Kind::Crew, "crew"),
            (Kind::Run, "run"),
            (Kind::Run, "loose"),
            (Kind::Stream, "stream"),
            (Kind::Session, "session"),
        ] {
            let crew = (id == "run").then(|| format!("{org}-crew"));
            registry.own(Ownership { crew, ..ownership(kind, &format!("{org}-{id}"), org) });
        }
    }
    let directory = Arc::new(DirectoryCache::new(registry.clone(), Arc::new(ChangeSignal::new())));
    let mut namespaces = Namespaces::default();
    namespaces.0.insert("own".to_owned(), crewcast_events::Namespace::default());
    (registry, Access::new(namespaces, directory))
}

fn listed(ids: &[&str]) -> Ids {
    Ids::Listed(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn patterns(patterns: &[&str]) -> Patterns {
    Patterns(patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
}

fn of(org: Option<&str>, grants: Grants) -> Identity {
    Identity { org: org.map(Arc::from), grants: Arc::new(grants), ..user("u") }
}

/// Everything of its org.
fn all_of(org: Option<&str>) -> Identity {
    let grants = Grants { crews: Ids::All, runs: Ids::All, streams: Ids::All, sessions: Ids::All, ..Grants::default() };
    of(org, grants)
}

impl Access {
    async fn reads(&self, identity: &Identity, channel: &str) -> bool {
        self.grant(identity, &channel.parse().unwrap()).await.unwrap() == Grant::Granted
    }

    async fn lists(&self, identity: &Identity, namespace: &str) -> Vec<String> {
        self.granted(identity, namespace).await.unwrap().iter().map(Channel::to_string).collect()
    }

    async fn publishes(&self, identity: &Identity, channel: &str) -> bool {
        self.may_publish(identity, &channel.parse().unwrap()).await.unwrap()
    }
}

/// Every channel of an org, in the built-in namespaces.
fn channels_of(org: &str) -> Vec<String> {
    let mut channels: Vec<_> = ["hub", "tracking", "agents", "tasks", "knowledge", "metrics"]
        .map(|namespace| format!("{namespace}:{org}"))
        .into();
    channels.extend(
        [
            ("graph", "crew"),
            ("mission", "crew"),
            ("run", "run"),
            ("run", "loose"),
            ("stream", "stream"),
            ("session", "session"),
        ]
        .map(|(namespace, id)| format!("{namespace}:{org}-{id}")),
    );
    channels
}

#[tokio::test]
async fn an_org_never_reads_channels_of_another() {
    let (_, access) = setup();
    for (own, other) in [("acme", "globex"), ("globex", "acme")] {
        let ids = |kind: &str| listed(&[&format!("{own}-{kind}"), &format!("{other}-{kind}")]);
        let lists = Grants {
            crews: ids("crew"),
            runs: Ids::Listed(ORGS.iter().flat_map(|org| [format!("{org}-run"), format!("{org}-loose")]).collect()),
            streams: ids("stream"),
            sessions: ids("session"),
            ..Grants::default()
        };
        for identity in [all_of(Some(own)), of(Some(own), lists)] {
            for channel in channels_of(own) {
                assert!(access.reads(&identity, &channel).await, "{own} reads {channel}");
            }
            for channel in channels_of(other) {
                assert!(!access.reads(&identity, &channel).await, "{own} must not read {channel}");
            }
            for namespace in Namespaces::default().0.keys() {
                let granted = access.lists(&identity, namespace).await;
                assert!(!granted.is_empty(), "{namespace}");
                assert!(granted.iter().all(|channel| channel.contains(own)), "{granted:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_wildcard_without_an_org_grants_nothing() {
    let (_, access) = setup();
    for org in ORGS {
        for channel in channels_of(org) {
            assert!(!access.reads(&all_of(None), &channel).await, "{channel}");
        }
    }
    for namespace in Namespaces::default().0.keys() {
        assert!(access.lists(&all_of(None), namespace).await.is_empty());
    }
}

#[tokio::test]
async fn listed_ids_without_an_owner_are_allowed() {
    let (_, access) = setup();
    let grants = Grants { crews: listed(&["new", "acme-crew"]), ..Grants::default() };
    for (org, crews) in [
        (Some("acme"), &["graph:new", "graph:acme-crew"][..]),
        (Some("globex"), &["graph:new"]),
        (None, &["graph:new"]),
    ] {
        let identity = of(org, grants.clone());
        assert_eq!(access.lists(&identity, "graph").await, crews, "{org:?}");
        assert!(access.reads(&identity, "graph:new").await && access.reads(&identity, "mission:new").await);
        assert_eq!(access.reads(&identity, "graph:acme-crew").await, org == Some("acme"));
        assert!(!access.reads(&identity, "graph:unlisted").await);
    }
    assert!(!access.reads(&all_of(Some("acme")), "graph:new").await, "\"*\" is only what the directory lists");
}

#[tokio::test]
async fn a_run_is_read_by_the_readers_of_its_crew() {
    let (registry, access) = setup();
    let crew = |org, crews| of(org, Grants { crews, ..Grants::default() });
    let reader = crew(Some("acme"), listed(&["acme-crew"]));
    assert!(access.reads(&reader, "run:acme-run").await);
    assert!(access.reads(&crew(Some("acme"), Ids::All), "run:acme-run").await);
    assert!(!access.reads(&reader, "run:acme-loose").await, "without a crew");
    assert!(!access.reads(&reader, "run:unknown").await);
    assert!(!access.reads(&crew(Some("acme"), listed(&["other"])), "run:acme-run").await);
    assert!(!access.reads(&crew(None, listed(&["acme-crew"])), "run:acme-run").await);
    // A run of another org that names our crew.
    registry.own(Ownership { crew: Some("acme-crew".to_owned()), ..ownership(Kind::Run, "foreign", "globex") });
    assert!(!access.reads(&reader, "run:foreign").await);
    // A run of ours that names another org's crew.
    registry.own(Ownership { crew: Some("globex-crew".to_owned()), ..ownership(Kind::Run, "stray", "acme") });
    assert!(!access.reads(&crew(Some("acme"), listed(&["globex-crew"])), "run:stray").await);
}

#[tokio::test]
async fn sessions_of_the_org_need_no_claim() {
    let (_, access) = setup();
    let member = of(Some("acme"), Grants { sessions: listed(&["new"]), ..Grants::default() });
    assert!(access.reads(&member, "session:acme-session").await && access.reads(&member, "session:new").await);
    assert!(!access.reads(&member, "session:globex-session").await);
    assert!(!access.reads(&of(None, Grants::default()), "session:acme-session").await);
    assert_eq!(access.lists(&member, "session").await, ["session:acme-session", "session:new"]);
    assert!(!access.reads(&member, "stream:acme-stream").await, "streams do");
}

#[tokio::test]
async fn namespaces_without_owner_follow_the_channels_claim() {
    let (_, access) = setup();
    let identity = of(None, Grants { channels: patterns(&["own:a", "graph:acme-crew"]), ..Grants::default() });
    assert!(access.reads(&identity, "own:a").await && !access.reads(&identity, "own:b").await);
    assert!(!access.reads(&identity, "graph:acme-crew").await, "an owned namespace has its own claim");
    assert_eq!(access.lists(&identity, "own").await, ["own:a"]);
    let whole = of(None, Grants { channels: patterns(&["own:*", "nowhere:*"]), ..Grants::default() });
    assert!(access.reads(&whole, "own:b").await);
    assert!(!access.reads(&whole, "nowhere:b").await, "not configured");
    assert!(access.lists(&whole, "nowhere").await.is_empty());
}

#[tokio::test]
async fn access_follows_a_crew_to_its_new_org() {
    let (registry, access) = setup();
    let (acme, globex) = (all_of(Some("acme")), all_of(Some("globex")));
    let by_list = of(Some("acme"), Grants { crews: listed(&["acme-crew"]), ..Grants::default() });
    assert!(access.reads(&acme, "graph:acme-crew").await && access.reads(&by_list, "graph:acme-crew").await);
    assert_eq!(access.lists(&globex, "graph").await, ["graph:globex-crew"]);
    assert_eq!(access.lists(&acme, "graph").await, ["graph:acme-crew"]);

    let moved = ownership(Kind::Crew, "acme-crew", "globex");
    registry.own(moved.clone());
    access.directory.apply_control(&moved, Some("acme"), false);
    for identity in [&acme, &by_list] {
        assert!(!access.reads(identity, "graph:acme-crew").await);
        assert!(access.lists(identity, "graph").await.is_empty());
        assert!(!access.reads(identity, "run:acme-run").await || identity.grants.runs == Ids::All);
    }
    assert!(access.reads(&globex, "graph:acme-crew").await);
    assert_eq!(access.lists(&globex, "graph").await, ["graph:acme-crew", "graph:globex-crew"]);
}

#[tokio::test]
async fn publishing_is_limited_to_the_org_of_the_token() {
    let (_, access) = setup();
    let grants = Grants {
        publish: patterns(&["graph:*", "run:acme-run", "hub:*", "own:a", "nowhere:*", "session:globex-session"]),
        ..Grants::default()
    };
    let acme = of(Some("acme"), grants.clone());
    for channel in ["graph:acme-crew", "graph:new", "run:acme-run", "hub:acme", "own:a"] {
        assert!(access.publishes(&acme, channel).await, "{channel}");
    }
    for channel in ["graph:globex-crew", "hub:globex", "run:acme-loose", "own:b", "nowhere:x", "session:globex-session"]
    {
        assert!(!access.publishes(&acme, channel).await, "{channel}");
    }
    let producer = of(None, grants);
    for channel in ["graph:acme-crew", "graph:globex-crew", "hub:globex", "own:a"] {
        assert!(access.publishes(&producer, channel).await, "{channel}");
    }
    for channel in ["run:acme-loose", "own:b", "nowhere:x", "mission:acme-crew"] {
        assert!(!access.publishes(&producer, channel).await, "{channel}");
    }
    assert!(
        !access.publishes(&all_of(Some("acme")), "graph:acme-crew").await,
        "a grant to read is no grant to publish"
    );
}

#[tokio::test]
async fn an_unreachable_registry_is_an_error_not_a_refusal() {
    let (registry, access) = setup();
    registry.set_down(true);
    let identity = all_of(Some("acme"));
    let channel = "graph:acme-crew".parse().unwrap();
    assert!(access.grant(&identity, &channel).await.is_err());
    assert!(access.granted(&identity, "graph").await.is_err());
    let producer = of(Some("acme"), Grants { publish: patterns(&["graph:*"]), ..Grants::default() });
    assert!(access.may_publish(&producer, &channel).await.is_err());
    assert!(access.reads(&identity, "hub:acme").await, "no directory needed");
}
