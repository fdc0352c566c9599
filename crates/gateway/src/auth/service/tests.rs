use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    auth::{
        mint,
        testing::{FakeRegistry, ownership},
    },
    config::Secret,
    registry::{Revocation, RevocationTarget},
};
use crewcast_events::Kind;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> AuthConfig {
    AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..AuthConfig::default() }
}

fn with(config: &AuthConfig, registry: &Arc<FakeRegistry>) -> Result<Arc<Auth>, AuthSetupError> {
    Auth::new(config, &Namespaces::default(), registry.clone(), registry.clone(), registry.clone())
}

fn auth(registry: &Arc<FakeRegistry>) -> Arc<Auth> {
    with(&config(), registry).unwrap()
}

fn token(claims: serde_json::Value) -> String {
    let mut all = json!({ "sub": "u1", "org": "acme", "exp": unix_now() + 600, "iat": unix_now() });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    mint(&Secret::new(SECRET), jsonwebtoken::Algorithm::HS256, all.as_object().unwrap()).unwrap()
}

fn bearer(claims: serde_json::Value) -> Credential {
    Credential::Token(Secret::new(token(claims)))
}

fn revoked(target: RevocationTarget) -> Revocation {
    Revocation { target, issued_until: unix_now(), remember_until: unix_now() + 600 }
}

async fn settles(mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if condition().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition was never met");
}

#[tokio::test]
async fn a_missing_credential_is_anonymous_where_that_is_allowed() {
    let registry = FakeRegistry::new();
    let closed = auth(&registry);
    assert_eq!(closed.identify(&Credential::None).await.unwrap(), None);
    let claims = json!({ "crews": ["a"] }).as_object().cloned();
    let open = AuthConfig { anonymous: claims, ..config() };
    let open = with(&open, &registry).unwrap();
    let identity = open.identify(&Credential::None).await.unwrap().unwrap();
    assert!(identity.anonymous && open.may_read(&identity, &"graph:a".parse().unwrap()).await.unwrap());
    let wrong = open.identify(&Credential::Token(Secret::new("a.b.c"))).await;
    assert!(matches!(wrong, Err(AuthError::Malformed)), "a bad token is not forgiven");
    let query = open.identify(&Credential::QueryTokenOff).await;
    assert!(matches!(query, Err(AuthError::QueryTokenOff)));
    let nobody = with(&AuthConfig::default(), &registry);
    assert!(matches!(nobody.err(), Some(AuthSetupError::Nothing)));
}

#[tokio::test]
async fn a_ticket_works_once() {
    let registry = FakeRegistry::new();
    let auth = auth(&registry);
    let identity = auth.identify(&bearer(json!({ "jti": "j", "crews": "*" }))).await.unwrap().unwrap();
    let ticket = auth.issue_ticket(&identity).await.unwrap();
    assert!(ticket.len() == 32 && ticket.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(registry.tickets(), [(ticket.clone(), Duration::from_secs(60))]);
    assert_ne!(auth.issue_ticket(&identity).await.unwrap(), ticket);
    let credential = Credential::Ticket(Secret::new(&ticket));
    assert_eq!(auth.identify(&credential).await.unwrap(), Some(identity));
    for spent in [credential, Credential::Ticket(Secret::new("x")), Credential::Ticket(Secret::new("f".repeat(32)))] {
        assert!(matches!(auth.identify(&spent).await, Err(AuthError::Ticket)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_few_tickets_are_redeemed_at_a_time() {
    let registry = FakeRegistry::new();
    let auth = auth(&registry);
    let gate = registry.hold_reads();
    let guess = |n: usize| {
        let auth = auth.clone();
        tokio::spawn(async move { auth.identify(&Credential::Ticket(Secret::new(format!("{n:032x}")))).await })
    };
    let pending: Vec<_> = (0..REDEMPTIONS).map(guess).collect();
    for _ in 0..REDEMPTIONS {
        gate.entered().await;
    }
    assert!(matches!(guess(99).await.unwrap(), Err(AuthError::Broker(_))), "it gets no turn");
    let shapeless = Credential::Ticket(Secret::new("guess"));
    assert!(matches!(auth.identify(&shapeless).await, Err(AuthError::Ticket)), "refused without asking");
    gate.open();
    for guess in pending {
        assert!(matches!(guess.await.unwrap(), Err(AuthError::Ticket)));
    }
}

#[tokio::test]
async fn a_ticket_does_not_bypass_expiry_and_revocation() {
    let registry = FakeRegistry::new();
    let auth = auth(&registry);
    let identity = auth.verify(&token(json!({ "jti": "j" }))).await.unwrap();
    let expired = Identity { expires_at: Some(unix_now()), ..identity.clone() };
    let ticket = auth.issue_ticket(&expired).await.unwrap();
    assert!(matches!(auth.identify(&Credential::Ticket(Secret::new(ticket))).await, Err(AuthError::Expired)));
    let ticket = auth.issue_ticket(&identity).await.unwrap();
    auth.on_control(&Control::Revoked(revoked(RevocationTarget::Jti("j".to_owned()))));
    assert!(matches!(auth.identify(&Credential::Ticket(Secret::new(ticket))).await, Err(AuthError::Revoked)));
    registry.set_down(true);
    let away = auth.identify(&Credential::Ticket(Secret::new("a".repeat(32)))).await.unwrap_err();
    assert_eq!((away.close_code(), away.label()), (1013, "unavailable"));
}

#[tokio::test]
async fn a_refresh_keeps_user_and_org() {
    let auth = auth(&FakeRegistry::new());
    let current = auth.verify(&token(json!({ "crews": ["a"] }))).await.unwrap();
    let fresh = auth.refresh(&current, &token(json!({ "crews": ["b"] }))).await.unwrap();
    assert_ne!(fresh.grants, current.grants);
    for other in [json!({ "sub": "u2" }), json!({ "org": "globex" }), json!({ "org": null })] {
        assert!(matches!(auth.refresh(&current, &token(other)).await, Err(AuthError::AnotherUser)));
    }
    let anonymous = Identity { anonymous: true, ..current.clone() };
    assert!(matches!(auth.refresh(&anonymous, &token(json!({}))).await, Err(AuthError::AnotherUser)));
    assert!(matches!(auth.refresh(&current, "junk").await, Err(AuthError::Malformed)));
}

#[tokio::test]
async fn a_revocation_is_signalled_and_refuses_the_token() {
    let auth = auth(&FakeRegistry::new());
    let mut changes = auth.changes();
    let by_jti = auth.verify(&token(json!({ "jti": "j" }))).await.unwrap();
    let by_sub = auth.verify(&token(json!({ "sub": "u2" }))).await.unwrap();
    for (identity, target) in
        [(&by_jti, RevocationTarget::Jti("j".to_owned())), (&by_sub, RevocationTarget::Sub("u2".to_owned()))]
    {
        assert!(auth.revalidate(identity).is_ok());
        let control = Control::Revoked(revoked(target));
        auth.on_control(&control);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        auth.on_control(&control);
        assert!(!changes.has_changed().unwrap(), "already known");
        assert!(matches!(auth.revalidate(identity), Err(AuthError::Revoked)));
    }
    assert!(matches!(auth.verify(&token(json!({ "jti": "j" }))).await, Err(AuthError::Revoked)));
    let later = json!({ "sub": "u2", "iat": unix_now() + 1 });
    assert!(auth.verify(&token(later)).await.is_ok(), "issued after the revocation");
}

#[tokio::test(start_paused = true)]
async fn revocations_reach_replicas_that_start_later_or_miss_the_message() {
    let registry = FakeRegistry::new();
    registry.revoke(&revoked(RevocationTarget::Jti("before".to_owned()))).await.unwrap();
    let auth = auth(&registry);
    let stop = CancellationToken::new();
    auth.start(stop.clone()).await;
    assert!(matches!(auth.verify(&token(json!({ "jti": "before" }))).await, Err(AuthError::Revoked)));
    let changes = auth.changes();
    registry.revoke(&revoked(RevocationTarget::Jti("missed".to_owned()))).await.unwrap();
    tokio::time::sleep(REREAD + Duration::from_millis(1)).await;
    assert!(changes.has_changed().unwrap());
    assert!(matches!(auth.verify(&token(json!({ "jti": "missed" }))).await, Err(AuthError::Revoked)));
    stop.cancel();
    auth.stopped().await;
    let reads = registry.revocation_reads();
    tokio::time::sleep(REREAD * 3).await;
    assert_eq!(registry.revocation_reads(), reads, "the tasks have ended");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_at_the_start_is_asked_again_soon() {
    let registry = FakeRegistry::new();
    registry.revoke(&revoked(RevocationTarget::Jti("j".to_owned()))).await.unwrap();
    registry.set_down(true);
    let auth = auth(&registry);
    let stop = CancellationToken::new();
    auth.start(stop.clone()).await;
    assert!(auth.verify(&token(json!({ "jti": "j" }))).await.is_ok());
    registry.set_down(false);
    tokio::time::sleep(RETRY + Duration::from_millis(1)).await;
    assert!(matches!(auth.verify(&token(json!({ "jti": "j" }))).await, Err(AuthError::Revoked)));
    stop.cancel();
    auth.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn changes_during_a_link_loss_are_found_when_the_link_is_back() {
    let registry = FakeRegistry::new();
    registry.own(ownership(Kind::Crew, "a", "acme"));
    let auth = auth(&registry);
    let stop = CancellationToken::new();
    auth.start(stop.clone()).await;
    let everyone = auth.verify(&token(json!({ "crews": "*" }))).await.unwrap();
    let listed = auth.verify(&token(json!({ "crews": ["a"] }))).await.unwrap();
    let graph = "graph:a".parse().unwrap();
    assert!(auth.may_read(&listed, &graph).await.unwrap());
    assert_eq!(auth.granted(&everyone, "graph").await.unwrap(), std::slice::from_ref(&graph));

    let changes = auth.changes();
    registry.own(ownership(Kind::Crew, "a", "globex"));
    registry.own(ownership(Kind::Crew, "b", "acme"));
    assert!(auth.may_read(&listed, &graph).await.unwrap(), "no message was received");
    auth.on_link_up();
    // Without any time passing: the clock does not advance while tasks are ready.
    let new = ["graph:b".parse().unwrap()];
    settles(async || changes.has_changed().unwrap() && auth.granted(&everyone, "graph").await.unwrap() == new).await;
    assert!(!auth.may_read(&listed, &graph).await.unwrap());
    stop.cancel();
    auth.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_reaches_open_sockets_immediately() {
    let registry = FakeRegistry::new();
    let auth = auth(&registry);
    let everyone = auth.verify(&token(json!({ "crews": "*" }))).await.unwrap();
    assert!(auth.granted(&everyone, "mission").await.unwrap().is_empty());
    let mut changes = auth.changes();
    auth.on_control(&Control::Directory {
        ownership: ownership(Kind::Crew, "new", "acme"),
        from: None,
        removed: false,
    });
    assert!(changes.has_changed().unwrap());
    assert_eq!(auth.granted(&everyone, "mission").await.unwrap(), ["mission:new".parse().unwrap()]);
    changes.mark_unchanged();
    auth.on_control(&Control::Directory {
        ownership: ownership(Kind::Crew, "x", "globex"),
        from: None,
        removed: false,
    });
    assert!(!changes.has_changed().unwrap(), "no socket here has to check again");
}

#[tokio::test(start_paused = true)]
async fn sockets_check_their_grants_again_from_time_to_time() {
    let registry = FakeRegistry::new();
    let auth = auth(&registry);
    let stop = CancellationToken::new();
    auth.start(stop.clone()).await;
    let changes = auth.changes();
    tokio::time::sleep(RECOUNT - REREAD).await;
    assert!(!changes.has_changed().unwrap());
    tokio::time::sleep(REREAD * 2).await;
    assert!(changes.has_changed().unwrap());
    stop.cancel();
    auth.stopped().await;
}
