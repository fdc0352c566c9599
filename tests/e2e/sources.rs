//! The Rust sources of a crate as tokens, for the tests that check rules about the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::support::root;

/// One file of a crate.
pub(crate) struct Source {
    pub file: PathBuf,
    /// The path of the module from the root of the crate: `["broker", "redis"]`.
    pub module: Vec<String>,
    /// The code without comments and without items that are only compiled for tests.
    pub code: Vec<TokenTree>,
}

/// The files of a package that are compiled outside tests, found by following its `mod` declarations.
pub(crate) fn sources(package: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for main in ["lib.rs", "main.rs"].map(|name| package.join("src").join(name)) {
        if main.exists() {
            read(main, Vec::new(), &mut found);
        }
    }
    assert!(!found.is_empty(), "{} has no sources", package.display());
    found
}

/// The folders of the packages of the workspace.
pub(crate) fn packages() -> Vec<PathBuf> {
    let mut packages: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("Cargo.toml").exists())
        .collect();
    packages.push(root().join("tests/servers"));
    packages.sort();
    packages
}

fn read(file: PathBuf, module: Vec<String>, found: &mut Vec<Source>) {
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let code = without_tests(tokens(&text));
    let is_root = module.is_empty();
    let is_folder = is_root || file.ends_with("mod.rs");
    let folder = if is_folder { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    let children = declared_modules(&code);
    found.push(Source { file, module: module.clone(), code });
    for child in children {
        let files = [folder.join(format!("{child}.rs")), folder.join(&child).join("mod.rs")];
        let file = files.into_iter().find(|file| file.exists()).unwrap_or_else(|| panic!("no file of module {child}"));
        read(file, [module.as_slice(), &[child]].concat(), found);
    }
}

pub(crate) fn tokens(text: &str) -> Vec<TokenTree> {
    text.parse::<TokenStream>().expect("Rust").into_iter().collect()
}

/// The names of `mod name;`.
fn declared_modules(code: &[TokenTree]) -> Vec<String> {
    let declarations = code.windows(3).filter(|window| is_word(&window[0], "mod") && is_punct(&window[2], ';'));
    declarations.map(|window| window[1].to_string()).collect()
}

/// The code without the items, statements and fields under `#[cfg(test)]`, at any depth.
pub(crate) fn without_tests(code: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut rest = code.into_iter().peekable();
    while let Some(token) = rest.next() {
        if is_punct(&token, '#') && rest.peek().is_some_and(is_cfg_test) {
            rest.next();
            skip_item(&mut rest);
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inside = without_tests(group.stream().into_iter().collect());
                proc_macro2::Group::new(group.delimiter(), inside.into_iter().collect()).into()
            }
            other => other,
        });
    }
    kept
}

/// Whether this is the `[cfg(test)]` or `[cfg(all(test, …))]` of an attribute.
fn is_cfg_test(attribute: &TokenTree) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text == "[cfg(test)]" || text.starts_with("[cfg(all(test,")
}

/// An item ends with its body, a semicolon, or the comma after a field.
fn skip_item(rest: &mut impl Iterator<Item = TokenTree>) {
    let mut angles = 0;
    let mut last = ' ';
    for token in rest {
        match &token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(punct) => {
                match punct.as_char() {
                    ';' => return,
                    ',' if angles == 0 => return,
                    '<' => angles += 1,
                    '>' if last != '-' => angles -= 1,
                    _ => {}
                }
                last = punct.as_char();
            }
            _ => last = ' ',
        }
    }
}

pub(crate) fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

pub(crate) fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(given) if given.as_char() == punct)
}
