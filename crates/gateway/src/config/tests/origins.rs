use super::{
    super::{AllowedOrigin, origins::is_same_host},
    of_text, of_variables,
};
use crate::config::OriginList;

fn contain(allowed: &[&str], origin: &str) -> bool {
    let allowed: Vec<AllowedOrigin> = allowed.iter().map(|text| text.parse().expect(text)).collect();
    OriginList { key: "allowed_origins", allowed: &allowed }.contain(origin)
}

#[test]
fn listed_origins_match_exactly() {
    let listed = ["https://app.example.com", "http://localhost:3000"];
    for good in ["https://app.example.com", "https://app.example.com:443", "http://localhost:3000"] {
        assert!(contain(&listed, good), "{good}");
    }
    for bad in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://evil.app.example.com",
        "https://app.example.com.evil.org",
        "https://xapp.example.com",
        "http://localhost",
        "http://localhost:30000",
        "null",
        "",
    ] {
        assert!(!contain(&listed, bad), "{bad}");
    }
}

#[test]
fn wildcards_stand_for_subdomains_ports_or_everything() {
    for good in ["https://a.example.com", "https://a.b.example.com"] {
        assert!(contain(&["https://*.example.com"], good), "{good}");
    }
    for bad in ["https://example.com", "https://aexample.com", "http://a.example.com", "https://a.example.com:444"] {
        assert!(!contain(&["https://*.example.com"], bad), "{bad}");
    }
    for good in ["http://localhost", "http://localhost:5173", "http://LOCALHOST:1"] {
        assert!(contain(&["http://localhost:*"], good), "{good}");
    }
    for bad in ["https://localhost:5173", "http://localhost.evil.org:5173", "http://127.0.0.1:5173", "null"] {
        assert!(!contain(&["http://localhost:*"], bad), "{bad}");
    }
    assert!(contain(&["https://*.example.com:*"], "https://a.example.com:444"));
    for any in ["https://wherever.org", "null", "tauri://localhost"] {
        assert!(contain(&["*"], any), "{any}");
    }
}

#[test]
fn pages_of_applications_and_pages_without_an_origin_can_be_listed() {
    for origin in [
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://obsidian.md",
        "app://-",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "vscode-webview://1a2b3c4d-0000-4000-8000-123456789abc",
        "null",
    ] {
        assert!(contain(&[origin], origin), "{origin}");
        assert!(!contain(&["https://localhost"], origin), "{origin}");
    }
    assert!(contain(&["vscode-webview://*.webview"], "vscode-webview://0a1b.webview"));
    assert!(!contain(&["tauri://localhost"], "tauri://localhost.evil"));
}

#[test]
fn what_is_not_an_origin_is_refused_with_an_example() {
    for entry in [
        "example.com",
        "localhost:3000",
        "https://example.com/app",
        "https://example.com/",
        "https://user@example.com",
        "https://a*.example.com",
        "https://a.*.example.com",
        "https://*",
        "*.example.com",
        "http://localhost:3000:*",
        "file:///home",
        "https://",
        "NULL",
    ] {
        let text = of_text(&format!("allowed_origins = ['{entry}']")).expect_err(entry).to_string();
        assert!(text.starts_with("allowed_origins (file crewcast.toml): "), "{text}");
        assert!(text.contains(&format!("{entry:?} is not an origin such as")), "{text}");
    }
}

#[test]
fn the_gateways_own_pages_are_recognised_by_their_host() {
    assert!(is_same_host("https://gw.example.com", "gw.example.com"));
    assert!(is_same_host("http://gw.example.com", "GW.example.com:80"));
    assert!(is_same_host("http://[::1]:8000", "[::1]:8000"));
    for (origin, host) in [
        ("https://evil.org", "gw.example.com"),
        ("https://gw.example.com:8443", "gw.example.com"),
        ("http://localhost:3000", "localhost:8000"),
        ("https://gw.example.com", ""),
        ("https://gw.example.com", "gw.example.com/x"),
        ("app://gw.example.com", "gw.example.com"),
        ("null", "null"),
    ] {
        assert!(!is_same_host(origin, host), "{origin} {host}");
    }
}

#[test]
fn one_key_feeds_sockets_and_http_and_each_can_have_its_own() {
    let both = of_text("allowed_origins = ['https://a.org']").expect("loads").config;
    for list in [both.socket_origins(), both.http_origins()] {
        assert_eq!(list.key, "allowed_origins");
        assert!(list.contain("https://a.org"));
    }
    let own = of_text("allowed_origins = ['https://a.org']\n[cors]\nallowed_origins = []").expect("loads").config;
    assert_eq!((own.http_origins().key, own.http_origins().allowed.len()), ("cors.allowed_origins", 0));
    assert!(own.socket_origins().contain("https://a.org"));
    let own = of_variables(&[("CREWCAST_AUTH__ALLOWED_ORIGINS", "https://b.org, http://localhost:*")]);
    let own = own.expect("loads").config;
    assert_eq!((own.socket_origins().key, own.socket_origins().allowed.len()), ("auth.allowed_origins", 2));
    assert!(own.http_origins().allowed.is_empty());
}
