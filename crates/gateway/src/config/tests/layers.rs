use super::super::layers::{is_of_a_service, variables};

#[test]
fn variables_of_a_kubernetes_service_are_ignored() {
    for name in [
        "CREWCAST_PORT",
        "CREWCAST_PORT_8000_TCP_ADDR",
        "CREWCAST_SERVICE_HOST",
        "CREWCAST_SERVICE_PORT_HTTP",
        "CREWCAST_REDIS_SERVICE_HOST",
        "CREWCAST_REDIS_SERVICE_PORT",
        "CREWCAST_REDIS_PORT",
        "CREWCAST_REDIS_PORT_6379_TCP_PROTO",
    ] {
        assert!(is_of_a_service(name), "{name}");
    }
    for name in
        ["CREWCAST_LISTEN", "CREWCAST_BROKER__URL", "CREWCAST_REDIS_URL", "CREWCAST_IMPORT_X", "CREWCAST_SERVICE__X"]
    {
        assert!(!is_of_a_service(name), "{name}");
    }
}

#[test]
fn the_short_name_comes_before_the_long_one_and_other_variables_are_ignored() {
    let env = [
        "PATH",
        "CREWCAST_BROKER__URL",
        "CREWCAST_REDIS_URL",
        "CREWCAST_TOKEN",
        "CREWCAST_PORT",
        "CREWCAST_ADMIN__LISTEN",
    ];
    let layers = variables(env.map(|name| (name.to_owned(), "x".to_owned())));
    let sources: Vec<_> = layers.iter().map(|(source, _)| source.to_string()).collect();
    assert_eq!(
        sources,
        ["variable CREWCAST_REDIS_URL", "variable CREWCAST_ADMIN__LISTEN", "variable CREWCAST_BROKER__URL"]
    );
}
