//! Who may see which usage.

use super::*;

#[tokio::test]
async fn an_org_sees_its_own_usage_and_an_admin_everything() {
    let bench = Bench::new();
    let org = bench.get("/ws/stats", &token(json!({"org": "acme"}))).await.ok();
    assert_eq!((&org["scope"], &org["org"]), (&json!("org"), &json!("acme")));
    for claims in [json!({"admin": true}), json!({"admin": true, "org": "acme"})] {
        let all = bench.get("/ws/stats", &token(claims)).await.ok();
        assert_eq!((&all["scope"], all.get("org")), (&json!("all"), None));
    }
    for claims in [json!({}), json!({"admin": false})] {
        bench.get("/ws/stats", &token(claims)).await.problem(403, "forbidden");
    }
    bench.get("/ws/stats", "").await.problem(401, "unauthorized");
}
