//! Tokens as a team's own backend mints them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The secret that the tests' gateways are configured with.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of user `u1` of org `acme` that is valid for an hour. `claims` replace claims of it; `null` removes one.
pub fn token(claims: Value) -> String {
    let mut all = json!({ "sub": "u1", "org": "acme", "iat": now(), "exp": now() + 3600 });
    for (key, value) in claims.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(key);
        } else {
            all[key] = value.clone();
        }
    }
    signed(&all, SECRET)
}

pub fn signed(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}
