//! No comment is longer than 120 columns. `rustfmt` wraps code, but not comments. String literals may be longer.

use std::{fs, path::Path};

use crate::support::root;

const COLUMNS: usize = 120;

fn too_long(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("node_modules") {
                too_long(&path, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let is_comment = |line: &str| line.trim_start().starts_with("//");
            let is_too_long = |line: &str| is_comment(line) && line.chars().count() > COLUMNS;
            let lines = text.lines().enumerate().filter(|(_, line)| is_too_long(line));
            found.extend(lines.map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
        }
    }
}

#[test]
fn no_comment_is_longer_than_120_columns() {
    let mut found = Vec::new();
    for folder in ["crates", "tests"] {
        too_long(&root().join(folder), &mut found);
    }
    assert!(found.is_empty(), "{} lines are too long: {found:#?}", found.len());
}
