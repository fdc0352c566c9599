//! Finds the commit for `crewcast --version`. Builds without git or a repository have no commit, and still succeed.

use std::{fs, path::Path, process::Command};

/// How many characters of the commit are shown.
const SHOWN: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=GIT_COMMIT");
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version} ({})", commit.get(..SHOWN).unwrap_or(&commit)),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=VERSION_WITH_COMMIT={version}");
}

/// The commit, from the builder (an image is built without the repository), the package, or the repository.
fn commit() -> Option<String> {
    let given = std::env::var("GIT_COMMIT").ok();
    given.and_then(|text| hexadecimal(&text)).or_else(of_the_package).or_else(of_the_repository)
}

/// `cargo package` writes this file.
fn of_the_package() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    hexadecimal(text.split("\"sha1\"").nth(1)?.split('"').nth(1)?)
}

fn of_the_repository() -> Option<String> {
    // The log of HEAD changes with each commit and checkout. A path that does not exist would rebuild every time.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    // Sources that were copied into another repository have no commit there.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    hexadecimal(&git(&["rev-parse", "HEAD"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn hexadecimal(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() >= SHOWN && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_owned())
}
