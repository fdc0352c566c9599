//! The API documents. AsyncAPI is checked against its own rules, the transcripts and the routes. OpenAPI is checked
//! against the running gateway with requests that a generator derives from the document.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{PATIENCE, gateway, root, token::token};

const ROUTES: &str = include_str!("../../crates/gateway/src/routes/sockets.rs");

#[tokio::test]
async fn the_asyncapi_file_is_valid_and_covers_what_every_endpoint_sends() {
    let script = root().join("tests/documents/asyncapi.mjs");
    let running = Command::new("node").arg(script).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running).await.expect("node exits").expect("node starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n(is tests/documents/node_modules there? `make test` installs it)");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["checked"].as_u64() > Some(50), "{told}");
    let mut documented: Vec<&str> = told["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let mut routes: Vec<&str> =
        ROUTES.split(r#".route(""#).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0)).collect();
    documented.sort_unstable();
    routes.sort_unstable();
    assert_eq!(documented, routes);
}

#[tokio::test]
async fn the_gateway_answers_as_the_openapi_file_says() {
    let gateway = gateway::memory(&[]).await;
    let jwt = token(json!({ "crews": ["abc"], "publish": ["graph:*", "run:*", "stream:*"], "admin": true }));
    let interpreter = std::env::var_os("TEST_PYTHON").expect("TEST_PYTHON is set by `make test`");
    let mut command = Command::new(interpreter);
    command
        .args(["-m", "schemathesis.cli", "run", &gateway.url("/api/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {jwt}"), "--no-color"])
        .args(["--seed", "1", "--max-examples", "30", "--generation-database", "none", "--request-timeout", "10"])
        // Event streams never end; sse.rs covers them.
        .args(["--exclude-path", "/sse"])
        // A schema cannot say which namespaces exist and which keys go together.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
        .env("PYTHONPATH", root().join("tests/documents"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(3 * PATIENCE, command.output())
        .await
        .expect("schemathesis exits")
        .expect("schemathesis starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Tested: 6"), "{told}");
}
