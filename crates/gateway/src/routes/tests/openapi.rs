use std::collections::BTreeSet;

use super::{super::*, *};

fn document() -> Value {
    serde_json::from_str(super::super::openapi::DOCUMENT).unwrap()
}

#[test]
fn the_document_lists_every_route_and_no_other() {
    let routes: BTreeSet<(String, String)> = public()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    let document = document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())))
        .collect();
    assert_eq!(documented, routes);
}

/// The table's methods are those that the router accepts.
#[tokio::test]
async fn the_route_table_matches_the_router() {
    let bench = Bench::new();
    for (method, path, _) in public() {
        let path = path.replace("{channel}", "graph:a");
        let status = bench.call(request(method, &path, "").body(Body::empty()).unwrap()).await.status;
        assert!(status == 200 || status == 401, "{method} {path}: {status}");
        let other = if method == "GET" { "POST" } else { "GET" };
        bench.call(request(other, &path, "").body(Body::empty()).unwrap()).await.problem(405, "method-not-allowed");
    }
}

#[test]
fn every_reference_resolves() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let (document, mut found) = (document(), Vec::new());
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

/// The fields of each answer are those that the document requires.
#[tokio::test]
async fn answers_have_the_documented_fields() {
    let bench = Bench::new();
    let event = r#"{"channel":"graph:a","event":{"type":"x"}}"#;
    let answers = [
        ("Published", bench.post("/api/v1/publish", &producer(), event).await.ok()),
        ("Registered", bench.post("/api/v1/directory", &producer(), r#"{"kind":"crew","id":"a"}"#).await.ok()),
        ("Ticket", bench.post("/api/v1/tickets", &producer(), "").await.ok()),
        ("History", bench.get("/api/v1/channels/graph:a/events", &producer()).await.ok()),
        ("Stats", bench.get("/ws/stats", &token(json!({"admin": true}))).await.ok()),
        ("Numbers", {
            let mut all = bench.get("/ws/stats", &token(json!({"admin": true}))).await.ok();
            all["total"].as_object_mut().unwrap().remove("replicas");
            all["total"].take()
        }),
        ("Problem", bench.get("/api/v1/nothing", "").await.json()),
    ];
    let document = document();
    for (schema, answer) in answers {
        let required = document["components"]["schemas"][schema]["required"].as_array().unwrap();
        let required: BTreeSet<&str> = required.iter().map(|name| name.as_str().unwrap()).collect();
        let fields: BTreeSet<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, required, "{schema}");
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let answer = Bench::new().get("/api/openapi.json", "").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.ok()["openapi"], "3.1.0");
}
