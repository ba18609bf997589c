//! Every way a token can be refused, as a table, and that each is told apart.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may panic as the test itself may"
)]

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign_access::{
    Access, Audience, Claims, Denied, Grant, Issuer, KeySet, Options, Scope, Scopes, SigningKey,
    Verifier, bearer,
};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://tokens.example";
const AUDIENCE: &str = "countersign";

struct World {
    key: SigningKey,
    issuer: Issuer,
    verifier: Verifier,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Self {
        let key = SigningKey::generate().unwrap();
        let keys = KeySet::new().with_signing_key(key.clone());
        let believed = KeySet::from_jwks(&serde_json::to_string(&keys.jwks()).unwrap()).unwrap();
        let mut options = Options::new(ISSUER, AUDIENCE);
        change(&mut options);
        let issuer = Issuer {
            keys,
            issuer: ISSUER.into(),
            audience: AUDIENCE.into(),
        };
        Self {
            key,
            issuer,
            verifier: Verifier::new(believed, options),
        }
    }

    fn token(&self) -> String {
        self.issuer.issue(&grant(), NOW).unwrap().token
    }

    fn verify(&self, token: &str) -> Result<Arc<Access>, Denied> {
        self.verifier.verify(token, NOW)
    }

    fn sign(&self, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.key.sign(&claims).unwrap()
    }
}

fn grant() -> Grant {
    Grant {
        subject: "clinic-042".into(),
        tenant: "default".into(),
        agent: Some("clinic-042".into()),
        scopes: Scopes::from([Scope::Hub, Scope::Ack]),
        ttl: Duration::from_secs(60),
    }
}

fn claims() -> Claims {
    Claims {
        iss: ISSUER.into(),
        aud: Audience::One(AUDIENCE.into()),
        sub: "s".into(),
        iat: NOW,
        exp: NOW + 60,
        nbf: None,
        jti: "1".into(),
        scope: Scope::Send.into(),
        tenant: "default".into(),
        agent: None,
    }
}

/// A token with this header and payload, and a signature made by `sign` over both.
fn forge(header: &Value, payload: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!(
        "{}.{}",
        B64.encode(header.to_string()),
        B64.encode(payload.to_string())
    );
    let signature = sign(message.as_bytes());
    format!("{message}.{}", B64.encode(signature))
}

fn good_payload() -> Value {
    serde_json::to_value(claims()).unwrap()
}

/// Replaces one part of a token (0 header, 1 payload, 2 signature).
fn with_part(token: &str, part: usize, value: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[part] = value;
    parts.join(".")
}

#[test]
fn a_token_of_ours_says_whom_it_serves_and_what_it_allows() {
    let world = World::new();
    let access = world.verify(&world.token()).unwrap();
    assert_eq!(access.subject, "clinic-042");
    assert_eq!(access.tenant, "default");
    assert_eq!(access.agent.as_deref(), Some("clinic-042"));
    assert_eq!(access.scopes, Scopes::from([Scope::Ack, Scope::Hub]));
    assert_eq!(access.expires_at_unix_s, NOW + 60);
    assert!(!access.token_id.is_empty());
    assert_eq!(access.require(Scope::Ack), Ok(()));
    assert_eq!(access.require_agent("clinic-042"), Ok(()));
}

#[test]
fn each_fault_is_refused_with_its_own_code() {
    let world = World::new();
    let good = world.token();
    let foreign = SigningKey::generate().unwrap();
    let kid = world.key.kid();
    // The public key's bytes, as an attacker knows them from the published set.
    let public = serde_json::to_value(world.issuer.keys.jwks()).unwrap()["keys"][0]["x"].clone();
    let public = B64.decode(public.as_str().unwrap()).unwrap();
    let hs256 = |message: &[u8]| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
        aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
    };
    let under_our_name = forge(
        &json!({"alg": "EdDSA", "kid": kid}),
        &good_payload(),
        |message| {
            let pair =
                aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(foreign.to_pkcs8()).unwrap();
            pair.sign(message).as_ref().to_vec()
        },
    );
    let mut more: Value = good_payload();
    more["scope"] = "admin".into();
    let no_exp = {
        let mut payload = good_payload();
        payload.as_object_mut().unwrap().remove("exp");
        let header = json!({"alg": "EdDSA", "kid": kid});
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(world.key.to_pkcs8()).unwrap();
        forge(&header, &payload, |message| {
            pair.sign(message).as_ref().to_vec()
        })
    };
    let table = [
        ("empty", String::new(), "E-TOKEN-MISSING"),
        ("not a token", "hello".into(), "E-TOKEN-MALFORMED"),
        (
            "two parts",
            good.rsplit_once('.').unwrap().0.into(),
            "E-TOKEN-MALFORMED",
        ),
        ("four parts", format!("{good}.x"), "E-TOKEN-MALFORMED"),
        (
            "header not base64url",
            with_part(&good, 0, "%%%"),
            "E-TOKEN-MALFORMED",
        ),
        (
            "far too long",
            format!("{good}{}", "A".repeat(20_000)),
            "E-TOKEN-MALFORMED",
        ),
        ("no exp", no_exp, "E-TOKEN-MALFORMED"),
        (
            "alg none without a signature",
            forge(&json!({"alg": "none"}), &good_payload(), |_| Vec::new()),
            "E-TOKEN-ALGORITHM",
        ),
        (
            "alg none naming our key",
            forge(&json!({"alg": "none", "kid": kid}), &good_payload(), |_| {
                Vec::new()
            }),
            "E-TOKEN-ALGORITHM",
        ),
        (
            "HS256 with our public key as the secret",
            forge(&json!({"alg": "HS256", "kid": kid}), &good_payload(), hs256),
            "E-TOKEN-ALGORITHM",
        ),
        (
            "our key under another algorithm",
            forge(
                &json!({"alg": "RS256", "kid": kid}),
                &good_payload(),
                |_| vec![0; 256],
            ),
            "E-TOKEN-ALGORITHM",
        ),
        (
            "an extension that must be understood",
            forge(
                &json!({"alg": "EdDSA", "kid": kid, "crit": ["b64"]}),
                &good_payload(),
                |_| vec![0; 64],
            ),
            "E-TOKEN-MALFORMED",
        ),
        (
            "payload altered",
            with_part(&good, 1, &B64.encode(more.to_string())),
            "E-TOKEN-SIGNATURE",
        ),
        (
            "signature removed",
            with_part(&good, 2, ""),
            "E-TOKEN-SIGNATURE",
        ),
        (
            "signature not base64url",
            with_part(&good, 2, "%%%"),
            "E-TOKEN-SIGNATURE",
        ),
        (
            "a stranger's key under our name",
            under_our_name,
            "E-TOKEN-SIGNATURE",
        ),
        (
            "a stranger's key",
            foreign.sign(&claims()).unwrap(),
            "E-TOKEN-KEY",
        ),
        (
            "expired",
            world.sign(|c| c.exp = NOW - 60),
            "E-TOKEN-EXPIRED",
        ),
        (
            "not yet valid",
            world.sign(|c| c.nbf = Some(NOW + 60)),
            "E-TOKEN-EARLY",
        ),
        (
            "other audience",
            world.sign(|c| c.aud = Audience::One("x".into())),
            "E-TOKEN-AUDIENCE",
        ),
        (
            "empty audience",
            world.sign(|c| c.aud = Audience::Many(vec![])),
            "E-TOKEN-AUDIENCE",
        ),
        (
            "other issuer",
            world.sign(|c| c.iss = "https://evil.example".into()),
            "E-TOKEN-ISSUER",
        ),
    ];
    for (what, token, code) in table {
        let denied = world.verify(&token).expect_err(what);
        assert_eq!(denied.code(), code, "{what}: {denied}");
        assert_eq!(denied.status(), 401, "{what}");
        assert!(
            !denied.hint().is_empty() && denied.challenge().starts_with("Bearer"),
            "{what}"
        );
        let explained = world.verifier.explain(&token, NOW);
        assert!(!explained.accepted, "{what}");
        assert_eq!(explained.refusals[0].code, code, "{what}");
    }
}

#[test]
fn a_missing_scope_is_forbidden_and_names_the_scope() {
    let world = World::new();
    let denied = world
        .verify(&world.token())
        .unwrap()
        .require(Scope::Admin)
        .unwrap_err();
    assert_eq!(
        denied,
        Denied::MissingScope {
            need: Scope::Admin,
            has: "ack hub".into()
        }
    );
    assert_eq!((denied.code(), denied.status()), ("E-TOKEN-SCOPE", 403));
    assert!(denied.challenge().contains(r#"error="insufficient_scope""#));
    assert!(denied.challenge().contains(r#"scope="admin""#));
}

#[test]
fn a_token_of_another_agent_is_forbidden() {
    let world = World::new();
    let denied = world
        .verify(&world.token())
        .unwrap()
        .require_agent("lyon")
        .unwrap_err();
    assert_eq!((denied.code(), denied.status()), ("E-TOKEN-AGENT", 403));
}

#[test]
fn a_remembered_token_is_refused_once_it_has_expired() {
    let world = World::with(|options| options.clock_skew = Duration::ZERO);
    let token = world.token();
    assert!(world.verifier.verify(&token, NOW).is_ok());
    assert!(world.verifier.verify(&token, NOW + 59).is_ok());
    let denied = world.verifier.verify(&token, NOW + 60).unwrap_err();
    assert_eq!(denied, Denied::Expired { at: NOW + 60 });
}

#[test]
fn clocks_may_differ_by_the_allowance_and_no_more() {
    let world = World::new();
    let token = world.sign(|c| (c.nbf, c.exp) = (Some(NOW), NOW + 60));
    for (at, accepted) in [
        (NOW - 6, false),
        (NOW - 5, true),
        (NOW + 64, true),
        (NOW + 65, false),
    ] {
        assert_eq!(
            world.verifier.verify(&token, at).is_ok(),
            accepted,
            "at {}",
            at - NOW
        );
    }
}

#[test]
fn one_token_is_checked_once_and_the_answer_is_shared() {
    let world = World::new();
    let token = world.token();
    let first = world.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&first, &world.verify(&token).unwrap()));
}

#[test]
fn a_key_taken_out_is_refused_even_for_remembered_tokens() {
    let world = World::new();
    let token = world.token();
    world.verify(&token).unwrap();
    world.verifier.replace_keys(KeySet::new());
    assert_eq!(world.verify(&token).unwrap_err().code(), "E-TOKEN-KEY");
}

#[test]
fn keys_are_exchanged_without_a_gap() {
    let (old, new) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let overlap = KeySet::new()
        .with_signing_key(new.clone())
        .with_signing_key(old.clone());
    let verifier = Verifier::new(overlap.clone(), Options::new(ISSUER, AUDIENCE));
    for signed in [
        old.sign(&claims()).unwrap(),
        overlap.sign(&claims()).unwrap(),
    ] {
        assert!(verifier.verify(&signed, NOW).is_ok());
    }
    let header = verifier
        .explain(&overlap.sign(&claims()).unwrap(), NOW)
        .header
        .unwrap();
    assert_eq!(header["kid"], new.kid(), "the first key signs");
}

#[test]
fn a_token_that_names_no_key_is_tried_with_every_fitting_one() {
    let world = World::new();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(world.key.to_pkcs8()).unwrap();
    let token = forge(&json!({"alg": "EdDSA"}), &good_payload(), |message| {
        pair.sign(message).as_ref().to_vec()
    });
    assert!(world.verify(&token).is_ok());
}

#[test]
fn an_explanation_lists_every_reason_and_what_the_token_holds() {
    let world = World::new();
    let token = world.sign(|c| (c.exp, c.aud) = (NOW - 100, Audience::One("elsewhere".into())));
    let explained = world.verifier.explain(&token, NOW);
    let codes: Vec<_> = explained
        .refusals
        .iter()
        .map(|refusal| refusal.code)
        .collect();
    assert_eq!(codes, ["E-TOKEN-AUDIENCE", "E-TOKEN-EXPIRED"]);
    assert_eq!(explained.expires_in_s, Some(-100));
    assert_eq!(explained.claims.unwrap()["aud"], "elsewhere");
    assert!(world.verifier.explain(&world.token(), NOW).accepted);
}

#[test]
fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
    assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
    assert_eq!(bearer(Some("bEARER   abc ")), Ok("abc"));
    assert_eq!(bearer(None), Err(Denied::Missing));
    assert_eq!(bearer(Some("Bearer")), Err(Denied::Missing));
    assert_eq!(
        bearer(Some("Basic abc")).unwrap_err().code(),
        "E-TOKEN-MALFORMED"
    );
}
