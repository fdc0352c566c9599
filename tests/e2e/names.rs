//! Each type name occurs once in a crate, so that a name says which type is meant.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenTree};

use crate::sources::{is_punct, is_word, packages, sources, tokens, without_tests};

const KEYWORDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// The types that `code` defines at any depth, without associated types and without the contents of macros.
fn types(code: &[TokenTree], is_associated: bool, found: &mut Vec<String>) {
    let mut is_body_associated = false;
    for (at, token) in code.iter().enumerate() {
        match token {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                if (word == "impl" && begins_item(&code[..at])) || word == "trait" {
                    is_body_associated = true;
                }
                let is_definition = KEYWORDS.contains(&word.as_str()) && !(word == "type" && is_associated);
                if let (true, Some(TokenTree::Ident(name))) = (is_definition, code.get(at + 1)) {
                    found.push(name.to_string());
                }
            }
            TokenTree::Group(group) if !is_macro(&code[..at]) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                let inside: Vec<_> = group.stream().into_iter().collect();
                types(&inside, is_body && is_body_associated, found);
                is_body_associated &= !is_body;
            }
            _ => {}
        }
    }
}

/// Whether an `impl` after these tokens is an item, not a type as in `-> impl Future`.
fn begins_item(before: &[TokenTree]) -> bool {
    match before.last() {
        None | Some(TokenTree::Group(_)) => true,
        Some(token) => is_punct(token, ';') || is_word(token, "unsafe"),
    }
}

/// Whether a group after these tokens is the input of a macro, or the rules of one.
fn is_macro(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(_), bang] if is_punct(bang, '!') => true,
        [.., word, bang, _] if is_punct(bang, '!') && is_word(word, "macro_rules") => true,
        _ => false,
    }
}

#[test]
fn no_type_name_occurs_twice_in_one_crate() {
    for package in packages() {
        let name = package.file_name().unwrap().to_str().unwrap();
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for source in sources(&package) {
            let mut found = Vec::new();
            types(&source.code, false, &mut found);
            for name in found {
                files.entry(name).or_default().push(source.file.display().to_string());
            }
        }
        files.retain(|_, files| files.len() > 1);
        assert!(
            files.is_empty(),
            "crate {name} has more than one type of the same name: rename all but one: {files:#?}"
        );
    }
}

#[test]
fn the_check_finds_every_type() {
    let named = |text: &str| {
        let mut found = Vec::new();
        types(&without_tests(tokens(text)), false, &mut found);
        found
    };
    assert_eq!(
        named("pub(crate) struct A; enum B<T> { C(T) } trait D {} type E = u8; union F { x: u8 }"),
        ["A", "B", "D", "E", "F"]
    );
    assert_eq!(
        named("mod inner { fn f() { struct A; } } impl X { fn g() { enum B {} type C = u8; } }"),
        ["A", "B", "C"]
    );
    assert_eq!(named("impl Iterator for X { type Item = u8; } trait T { type Output; }"), ["T"]);
    assert_eq!(named("fn f() -> impl Future { type A = u8; }"), ["A"]);
    assert_eq!(named("macro_rules! m { () => { struct A; } } call! { struct B; }"), [""; 0]);
    assert_eq!(named("#[cfg(test)] mod tests { struct A; } struct B;"), ["B"]);
    assert_eq!(named("// struct A\n/// enum B\nfn union() {}"), [""; 0]);
}
