//! The documentation as a whole: every link leads somewhere, every page is listed, and mdbook builds the site without
//! warnings.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use crate::support::{pages::Page, root};

/// Where files of the repository are read that are not part of the site.
const REPOSITORY: &str = "https://github.com/crewcast/crewcast/blob/main/";

/// A path without `..` and `.`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

/// The file in the repository and the anchor that a link leads to; `None` for the rest of the world.
fn target(page: &Page, link: &str) -> Option<(PathBuf, Option<String>)> {
    let is_of_the_repository = link.strip_prefix(REPOSITORY);
    if is_of_the_repository.is_none() && (link.contains("://") || link.starts_with("mailto:")) {
        return None;
    }
    let (file, anchor) = match is_of_the_repository.unwrap_or(link).split_once('#') {
        Some((file, anchor)) => (file, Some(anchor.to_owned())),
        None => (is_of_the_repository.unwrap_or(link), None),
    };
    let path = match (is_of_the_repository, file) {
        (Some(_), file) => PathBuf::from(file),
        (None, "") => PathBuf::from(&page.path),
        (None, file) => normal(&Path::new(&page.path).parent().unwrap().join(file)),
    };
    Some((path, anchor))
}

/// Why a link leads nowhere.
fn fault(page: &Page, link: &str) -> Option<String> {
    let (path, anchor) = target(page, link)?;
    let fault = |what: &str| Some(format!("{}: {link} {what}", page.path));
    if !root().join(&path).exists() {
        return fault("does not exist");
    }
    let is_in_the_site = page.path.starts_with("docs/");
    if is_in_the_site && !path.starts_with("docs") && !link.starts_with(REPOSITORY) {
        return fault("leaves the site: begin it with the address of the repository");
    }
    let anchor = anchor?;
    let anchors = Page::read(path.to_str().unwrap()).anchors();
    if anchors.contains(&anchor) { None } else { fault("names no heading of that page") }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = [vec![Page::read("README.md"), Page::read("CHANGELOG.md")], Page::all()].concat();
    let links: Vec<_> = pages.iter().flat_map(|page| page.links().into_iter().map(move |link| (page, link))).collect();
    assert!(links.len() > 150, "{}", links.len());
    let faults: Vec<_> = links.iter().filter_map(|(page, link)| fault(page, link)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_wrong_link_is_found() {
    let page = |text: &str| Page { path: "docs/http.md".to_owned(), text: text.to_owned() };
    for text in ["[a](nowhere.md)", "[a](cli.md#nowhere)", "[a](../Makefile)", "[a](#nowhere)", "<a href=\"nowhere\">"]
    {
        let page = page(&format!("# Heading\n{text}\n"));
        assert_eq!(page.links().iter().filter(|link| fault(&page, link).is_some()).count(), 1, "{text}");
    }
    let good = page("# Heading\n`[a](nowhere.md)` [a](cli.md#exit-codes)\n```\n[a](nowhere.md)\n```\n");
    assert_eq!(good.links(), ["cli.md#exit-codes"]);
    assert_eq!(fault(&good, "cli.md#exit-codes"), None);
}

/// The pages that a page lists, by their path in the repository.
fn listed(page: &Page) -> Vec<String> {
    let targets = page.links().into_iter().filter_map(|link| target(page, &link));
    let paths = targets.map(|(path, _)| path.to_str().unwrap().to_owned());
    paths.filter(|path| path.ends_with(".md") && path.starts_with("docs/")).collect()
}

#[test]
fn the_summary_lists_every_page_once() {
    let mut listed = listed(&Page::read("docs/SUMMARY.md"));
    listed.sort();
    let pages: Vec<_> =
        Page::all().into_iter().map(|page| page.path).filter(|path| path != "docs/SUMMARY.md").collect();
    assert_eq!(listed, pages);
}

/// Each part of the summary begins with its page of contents, which lists the other pages of that part.
#[test]
fn each_page_of_contents_lists_its_part() {
    let summary = Page::read("docs/SUMMARY.md").text;
    let parts: Vec<_> = summary.split("\n# ").skip(1).collect();
    assert_eq!(parts.len(), 4);
    for part in parts {
        let part = listed(&Page { path: "docs/SUMMARY.md".to_owned(), text: part.to_owned() });
        let (contents, pages) = part.split_first().unwrap();
        let listed: BTreeSet<_> = listed(&Page::read(contents)).into_iter().collect();
        let pages: BTreeSet<_> = pages.iter().cloned().collect();
        assert_eq!(listed, pages, "{contents}");
    }
}

#[test]
fn mdbook_builds_the_site_without_warnings() {
    let program = root().join("target/tools/bin/mdbook");
    assert!(program.exists(), "mdbook is needed: run `make test`, or tests/mdbook.sh, which installs it");
    let folder = tempfile::tempdir().unwrap();
    let mut build = Command::new(program);
    build.arg("build").arg("--dest-dir").arg(folder.path()).arg(root().join("docs")).stdin(Stdio::null());
    let output = build.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("WARN") && !told.contains("ERROR") && !told.contains("warning"), "{told}");
    for page in ["index.html", "tutorial-first-crew.html", "protocols/crew.html", "images/console.png"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}
