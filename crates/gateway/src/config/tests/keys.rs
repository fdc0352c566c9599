use super::super::{
    Source,
    keys::{KEYS, is_known, suggestion},
};

#[test]
fn keys_and_tables_are_known_and_nothing_else() {
    for key in ["listen", "limits.stall", "limits", "auth.anonymous", "namespaces.audit.log.age", "namespaces.audit"] {
        assert!(is_known(key), "{key}");
    }
    for key in ["liste", "limit", "limits.stal", "namespaces.audit.log.size", "namespaces.audit.x", "auth.hs256"] {
        assert!(!is_known(key), "{key}");
    }
    assert!(KEYS.contains("namespaces.<n>.log.length"));
}

#[test]
fn the_nearest_key_is_suggested_as_its_source_writes_it() {
    let file = Source::File("x.toml".into());
    let variable = Source::Variable("X".to_owned());
    assert!(suggestion("limits.stal", &file).ends_with("did you mean limits.stall?"));
    assert!(suggestion("namespaces.audit.log.lenght", &file).ends_with("did you mean namespaces.audit.log.length?"));
    assert!(suggestion("hs256_secret", &file).ends_with("did you mean auth.hs256_secret?"));
    let underscore = suggestion("auth_hs256_secret", &variable);
    assert!(underscore.contains("CREWCAST_AUTH__HS256_SECRET (auth.hs256_secret)"), "{underscore}");
    assert!(suggestion("zzzzzzzzzzzz", &file).contains("crewcast config --default"));
}
