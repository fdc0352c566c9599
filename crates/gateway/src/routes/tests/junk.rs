use super::*;

/// Changes a few bytes of a valid input, or generates random bytes.
fn mangle(random: &mut fastrand::Rng, good: &str) -> Vec<u8> {
    let mut bytes = good.as_bytes().to_vec();
    match random.u8(..4) {
        0 => return (0..random.usize(..300)).map(|_| random.u8(..)).collect(),
        1 => bytes.truncate(random.usize(..=bytes.len())),
        2 => bytes.extend_from_within(random.usize(..bytes.len())..),
        _ => {}
    }
    for _ in 0..random.usize(..4) {
        if !bytes.is_empty() {
            let at = random.usize(..bytes.len());
            bytes[at] = *random.choice(b"{}[]\",:\\\n0\xff\x00e").unwrap();
        }
    }
    bytes
}

#[tokio::test]
async fn junk_never_causes_an_internal_error() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::new();
    let good = [
        r#"{"channel":"graph:a","event":{"type":"x","n":[1,{"a":"\u00e9"}]},"idempotency_key":"k"}"#,
        "{\"channel\":\"graph:a\",\"event\":{\"type\":\"x\"}}\n{\"channel\":\"run:r\",\"event\":{\"type\":\"y\"},\"live\":true}",
        r#"{"channel":"graph:b","event":{"type":"x"},"state":{"key":"s","value":null}}"#,
        r#"{"kind":"run","id":"r1","org":"acme","crew":"a"}"#,
    ];
    for round in 0..300 {
        let body = mangle(&mut random, good[round % good.len()]);
        let path = ["/api/v1/publish", "/api/v1/directory", "/api/v1/tickets"][random.usize(..3)];
        let mut request = request("POST", path, &producer());
        if random.bool() {
            request = request.header("content-type", "application/x-ndjson");
        }
        let answer = bench.call(request.body(body.clone().into()).unwrap()).await;
        assert!(!answer.status.is_server_error(), "seed {seed}: {body:?} to {path}: {answer:?}");
        answer.json();

        let noise: String = mangle(&mut random, "graph:a/events?after=1-000000aaaaaa&limit=5")
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() && random.bool() {
                    char::from(*byte).to_string()
                } else {
                    format!("%{byte:02x}")
                }
            })
            .collect();
        for path in
            [format!("/api/v1/channels/{noise}/events"), format!("/api/v1/channels/graph:a/events?after={noise}")]
        {
            let Ok(request) = request_of(&path) else { continue };
            let answer = bench.call(request).await;
            assert!(!answer.status.is_server_error(), "seed {seed}: {path}: {answer:?}");
            answer.json();
        }
        let bad_token: String = mangle(&mut random, &producer()).iter().map(|b| char::from(b % 94 + 33)).collect();
        let answer = bench.post("/api/v1/publish", &bad_token, good[0]).await;
        assert!(!answer.status.is_server_error(), "seed {seed}: {bad_token}: {answer:?}");
    }
    bench.publish(&producer(), &json!({"channel": "graph:a", "event": {"type": "still here"}})).await;
}

fn request_of(path: &str) -> Result<Request<Body>, axum::http::Error> {
    request("GET", path, &producer()).body(Body::empty())
}

#[tokio::test]
async fn deep_nesting_does_not_overflow() {
    let bench = Bench::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body =
        format!(r#"{{"channel":"graph:a","event":{{"type":"x","d":{deep}}},"state":{{"key":"k","value":{deep}}}}}"#);
    bench.post("/api/v1/publish", &producer(), body).await.ok();
    bench.post("/api/v1/publish", &producer(), deep).await.problem(400, "malformed");
}
