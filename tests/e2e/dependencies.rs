//! What `deny.toml` lets pass, and what has to hold for that.

use std::fs;

use proc_macro2::TokenTree;

use crate::{
    sources::{is_word, packages, sources, tokens},
    support::root,
};

/// How often `code` names a constructor of an RSA key for signing: `EncodingKey::from_rsa_…`.
fn rsa_signers(code: &[TokenTree]) -> usize {
    let here = code.windows(4).filter(|window| {
        is_word(&window[0], "EncodingKey")
            && matches!(&window[3], TokenTree::Ident(name) if name.to_string().starts_with("from_rsa"))
    });
    let inside = code.iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(rsa_signers(&group.stream().into_iter().collect::<Vec<_>>())),
        _ => None,
    });
    here.count() + inside.sum::<usize>()
}

/// The reason why RUSTSEC-2023-0071 does not concern Crewcast.
#[test]
fn nothing_signs_with_an_rsa_key() {
    for package in packages() {
        for source in sources(&package) {
            assert_eq!(rsa_signers(&source.code), 0, "{} signs with an RSA key", source.file.display());
        }
    }
}

#[test]
fn the_check_finds_a_signer() {
    assert_eq!(rsa_signers(&tokens("fn f() { g(EncodingKey::from_rsa_pem(key)) }")), 1);
    assert_eq!(rsa_signers(&tokens("fn f() { g(DecodingKey::from_rsa_pem(key), EncodingKey::from_secret(x)) }")), 0);
}

#[test]
fn each_ignored_advisory_has_its_reason() {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let ignored: Vec<&str> = text.lines().filter(|line| line.contains("RUSTSEC-")).collect();
    assert!(!ignored.is_empty(), "nothing is ignored: remove this test");
    for line in ignored {
        let reason = line.split_once("reason = \"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
        assert!(reason.len() > 20, "deny.toml: give a reason in this line: {line}");
    }
    let ignores = text.split("ignore = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let entries = ignores.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(entries.into_iter().all(|line| line.starts_with("{ id = \"") && line.contains("reason")), "{ignores}");
}
