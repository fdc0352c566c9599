//! The `crewcast` that the tests start.
//!
//! Cargo builds the binaries of a package only for that package's own tests, so these tests have theirs built.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::root;

/// The path of `crewcast`: `CREWCAST_TEST_BINARY` if that is set, otherwise one built from the sources as they are now.
///
/// # Panics
/// If the build fails.
pub fn crewcast_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CREWCAST_TEST_BINARY") {
        Some(given) => given.into(),
        None => build_beside(&std::env::current_exe().unwrap()),
    })
}

/// Builds `crewcast` with the profile of this test, which is `<target>/<profile>/deps/<name>`.
///
/// Cargo's lock keeps parallel test processes apart, and a build with nothing to do takes half a second.
fn build_beside(test: &Path) -> PathBuf {
    let folder = test.ancestors().nth(2).expect("a test is in the `deps` of a profile");
    let target = folder.parent().expect("a profile is in a target directory");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("{} is not in the folder of a profile", test.display()),
    };
    let mut cargo = Command::new(env!("CARGO"));
    // Build scripts of dependencies look at what Cargo says about the package of a test, and would run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let built = cargo
        .current_dir(root())
        // An example makes Cargo choose the features that `cargo test --workspace` has, so that both share one build.
        .args(["build", "--quiet", "--workspace", "--bin", "crewcast", "--example", "monitor"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .status()
        .expect("cargo starts");
    assert!(built.success(), "`cargo build --bin crewcast` failed: see its errors above");
    folder.join("crewcast").with_extension(std::env::consts::EXE_EXTENSION)
}
