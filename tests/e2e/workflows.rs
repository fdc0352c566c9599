//! What stands around the code: workflows, forms, the metadata of crates, and the pages for contributors.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value as Json;
use serde_yaml_ng::Value;

/// The top of the repository: the folder of `Cargo.lock`.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|folder| folder.join("Cargo.lock").exists());
    root.expect("a folder with Cargo.lock above this crate").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder, as paths in the repository.
fn files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> =
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())).collect();
    files.sort();
    files
}

const WORKFLOWS: &str = ".github/workflows";

fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {out}{}", String::from_utf8_lossy(&output.stderr));
    out
}

#[test]
fn actionlint_accepts_every_workflow() {
    let installed = root().join("target/tools/bin/actionlint");
    // `make test` installs it there; else the one on the PATH.
    let program = if installed.exists() { installed } else { "actionlint".into() };
    assert!(files(WORKFLOWS).len() >= 5);
    // Without shellcheck, which not every machine has: the result must not depend on that.
    run(Command::new(program).args(["-no-color", "-shellcheck=", "-pyflakes="]).args(files(WORKFLOWS)));
}

/// Every mapping below a value.
fn mappings(value: &Value) -> Vec<&serde_yaml_ng::Mapping> {
    match value {
        Value::Mapping(mapping) => std::iter::once(mapping).chain(mapping.values().flat_map(mappings)).collect(),
        Value::Sequence(list) => list.iter().flat_map(mappings).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn workflows_have_bounds_and_the_least_rights() {
    for path in files(WORKFLOWS) {
        let workflow = yaml(&path);
        // A token that may write is given job by job.
        let rights = workflow["permissions"].as_mapping().unwrap_or_else(|| panic!("{path} has no permissions"));
        assert!(rights.values().all(|right| right == "read"), "{path}: {rights:?}");
        assert!(workflow["concurrency"]["group"].is_string(), "{path} has no concurrency group");
        for (job, content) in workflow["jobs"].as_mapping().unwrap() {
            assert!(content["timeout-minutes"].is_u64(), "{path}: {job:?} has no timeout");
        }
        for used in mappings(&workflow).iter().filter_map(|mapping| mapping.get("uses")?.as_str()) {
            let (_, version) = used.split_once('@').unwrap_or_else(|| panic!("{path}: {used} has no version"));
            assert!(version.starts_with('v') || version.len() == 40, "{path}: {used} may change at any time");
        }
    }
}

/// The targets of the Makefile.
fn targets() -> BTreeSet<String> {
    let makefile = read("Makefile");
    let names = makefile.lines().filter(|line| line.contains(": ") && line.contains("## "));
    names.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

/// The targets that a text calls: each word after `make `, at the start of a line or after a backtick.
fn called(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase()).collect::<String>();
    let lines = text.lines().filter_map(|line| line.trim_start().trim_start_matches("- run: ").strip_prefix("make "));
    lines.chain(text.split("`make ").skip(1)).map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_make_target_that_workflows_and_pages_name_exists() {
    let targets = targets();
    assert!(targets.contains("check") && targets.contains("test"), "{targets:?}");
    let mut seen = BTreeSet::new();
    for path in files(WORKFLOWS).iter().map(String::as_str).chain(PAGES) {
        let called = called(&read(path));
        assert!(called.is_subset(&targets), "{path} calls {called:?}, the Makefile has {targets:?}");
        seen.extend(called);
    }
    assert!(seen.len() >= 6, "{seen:?}");
    assert!(called(&read(".ci/run")).is_superset(&["lint", "test"].map(str::to_owned).into()), ".ci/run runs all");
}

/// What Cargo says of the workspace.
fn metadata() -> Json {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = run(Command::new(cargo).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]));
    serde_json::from_str(&out).unwrap()
}

/// Every package of the workspace by its name.
fn packages(metadata: &Json) -> BTreeMap<&str, &Json> {
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (package["name"].as_str().unwrap(), package)).collect()
}

/// `publish = false` is an empty list of registries.
fn is_published(package: &Json) -> bool {
    package["publish"].as_array().is_none_or(|registries| !registries.is_empty())
}

/// The crates that release.yml publishes, in its order.
fn released() -> Vec<String> {
    let workflow = yaml(".github/workflows/release.yml");
    workflow["env"]["CRATES"].as_str().expect("CRATES").split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_release_publishes_every_public_crate_after_what_it_depends_on() {
    let metadata = metadata();
    let packages = packages(&metadata);
    let released = released();
    let listed: BTreeSet<&str> = released.iter().map(String::as_str).collect();
    let published = packages.iter().filter(|(_, package)| is_published(package)).map(|(name, _)| *name).collect();
    assert_eq!(listed, published);
    assert_eq!(listed.len(), released.len(), "a crate stands there twice");
    for (place, name) in released.iter().enumerate() {
        for dependency in packages[name.as_str()]["dependencies"].as_array().unwrap() {
            let (other, path) = (dependency["name"].as_str().unwrap(), &dependency["path"]);
            let is_development = dependency["kind"] == "dev";
            if path.is_null() {
                continue;
            }
            if is_published(packages[other]) {
                assert_eq!(dependency["req"], format!("^{}", packages[other]["version"].as_str().unwrap()), "{name}");
                let before = released[..place].iter().any(|earlier| earlier == other);
                assert!(before || is_development, "{name} is published before {other}");
            } else {
                assert!(is_development, "{name} is published, {other} is not");
                assert_eq!(dependency["req"], "*", "{name}: cargo leaves {other} out only without a version");
            }
        }
    }
}

#[test]
fn every_published_crate_can_be_packaged() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = tempfile::tempdir().unwrap();
    let mut command = Command::new(cargo);
    command.args(["package", "--no-verify", "--offline", "--allow-dirty", "--target-dir"]).arg(built.path());
    for name in released() {
        command.args(["-p", &name]);
    }
    run(&mut command);
    let metadata = metadata();
    for (name, package) in packages(&metadata).into_iter().filter(|(_, package)| is_published(package)) {
        for key in ["description", "license", "repository", "homepage", "readme", "rust_version"] {
            assert!(package[key].as_str().is_some_and(|value| !value.is_empty()), "{name} has no {key}");
        }
        for key in ["keywords", "categories"] {
            assert!(matches!(package[key].as_array().map(Vec::len), Some(1..=5)), "{name}: one to five {key}");
        }
        let file = format!("package/{name}-{}.crate", package["version"].as_str().unwrap());
        let size = fs::metadata(built.path().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}")).len();
        assert!(size < 2 << 20, "{file} has {size} bytes: does `include` take in too much?");
        let top = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        assert_eq!(fs::read_to_string(top.join("LICENSE")).unwrap(), read("LICENSE"), "{name}");
    }
}

#[test]
fn versions_are_the_same_everywhere() {
    let metadata = metadata();
    let packages = packages(&metadata);
    let (version, rust) = (packages["crewcast"]["version"].as_str().unwrap(), &packages["crewcast"]["rust_version"]);
    assert!(packages.values().all(|package| package["version"] == version && package["rust_version"] == *rust));
    assert_eq!(yaml(".github/workflows/msrv.yml")["env"]["MSRV"].as_str(), rust.as_str());
    assert_eq!(yaml("docs/protocols/asyncapi.yaml")["info"]["version"].as_str(), Some(version));
    let kustomization = yaml("k8s/overlays/production/kustomization.yaml");
    assert_eq!(kustomization["images"][0]["newTag"].as_str(), Some(version));
}

#[test]
fn dependabot_looks_where_manifests_are() {
    let manifests = [
        ("cargo", "Cargo.toml"),
        ("github-actions", WORKFLOWS),
        ("npm", "package.json"),
        ("pip", "requirements.txt"),
        ("docker", "Dockerfile"),
    ];
    let dependabot = yaml(".github/dependabot.yml");
    let mut seen = BTreeSet::new();
    for update in dependabot["updates"].as_sequence().unwrap() {
        let ecosystem = update["package-ecosystem"].as_str().unwrap();
        let (_, manifest) = manifests.iter().find(|(name, _)| *name == ecosystem).expect(ecosystem);
        let several = update["directories"].as_sequence().into_iter().flatten();
        for folder in several.chain(update.get("directory")).map(|folder| folder.as_str().unwrap()) {
            let there = root().join(folder.trim_start_matches('/')).join(manifest).exists();
            assert!(there, "{ecosystem}: no {manifest} in {folder}");
        }
        seen.insert(ecosystem);
    }
    assert_eq!(seen.len(), manifests.len());
}

#[test]
fn issue_forms_are_complete() {
    for path in files(".github/ISSUE_TEMPLATE").iter().filter(|path| !path.ends_with("config.yml")) {
        let form = yaml(path);
        assert!(form["name"].is_string() && form["description"].is_string(), "{path}");
        let mut ids = BTreeSet::new();
        for field in form["body"].as_sequence().unwrap() {
            if field["type"] == "markdown" {
                continue;
            }
            assert!(field["attributes"]["label"].is_string(), "{path}: {field:?}");
            let id = field["id"].as_str().unwrap_or_else(|| panic!("{path}: {field:?}"));
            assert!(ids.insert(id.to_owned()), "{path}: {id} stands there twice");
        }
    }
}

/// The pages for contributors.
const PAGES: [&str; 4] = ["CONTRIBUTING.md", "SECURITY.md", "docs/development.md", ".github/pull_request_template.md"];

/// What stands between backticks outside of code blocks.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    let prose = page.split("\n```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

#[test]
fn paths_and_links_of_the_pages_exist() {
    for path in PAGES {
        let page = read(path);
        let folder = root().join(path).parent().unwrap().to_owned();
        let links = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.starts_with("http") && !link.is_empty()) {
            assert!(folder.join(link).exists(), "{path} links {link}");
        }
        let tops = ["crates/", "tests/", "docs/", "deploy/", "k8s/", "config/", ".github/"];
        let is_path = |text: &&str| {
            tops.iter().any(|top| text.starts_with(top)) && !text.contains([' ', '<']) && !text.contains("NAME")
        };
        for named in quoted(&page).filter(is_path) {
            assert!(root().join(named).exists(), "{path} names {named}");
        }
    }
}

/// The page names files from the root, or from the sources of the crate that a step is about.
#[test]
fn files_that_architecture_names_exist() {
    let page = read("docs/architecture.md");
    let folders = ["", "crates/gateway/src", "crates/publisher/src", "crates/store/src", "crates/websocket/src"];
    let is_path =
        |text: &&str| [".rs", ".lua", "/"].iter().any(|end| text.ends_with(end)) && !text.contains([' ', '*', '<']);
    let named: Vec<&str> = quoted(&page).filter(is_path).collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named {
        let exists = folders.iter().any(|folder| root().join(folder).join(name).exists());
        assert!(exists, "docs/architecture.md names {name}");
    }
}

#[test]
fn every_test_that_development_names_exists() {
    let (page, modules) = (read("docs/development.md"), read("tests/e2e/main.rs"));
    let named: BTreeSet<&str> =
        quoted(&page).filter_map(|text| text.strip_prefix("--test e2e ")).filter(|name| *name != "NAME").collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(modules.contains(&format!("mod {name};")), "there is no tests/e2e/{name}.rs");
    }
}
