//! Keys: made, stored, published, and believed when they come from elsewhere.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may panic as the test itself may"
)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign_access::{KeyError, KeySet, Options, Scope, SigningKey, Verifier};
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

fn verifier(jwks: &Value) -> Verifier {
    let keys = KeySet::from_jwks(&jwks.to_string()).unwrap();
    Verifier::new(keys, Options::new("https://idp.example", "countersign"))
}

/// As an outside identity provider words it: a list of audiences, a fraction in the date, scopes of its own.
fn foreign_message(alg: &str) -> String {
    let header = json!({"alg": alg, "kid": "k1", "typ": "at+jwt"}).to_string();
    let payload = json!({
        "iss": "https://idp.example", "aud": ["other", "countersign"], "sub": "u",
        "exp": NOW as f64 + 0.5, "scope": ["openid", "read"], "azp": "x",
    })
    .to_string();
    format!("{}.{}", B64.encode(header), B64.encode(payload))
}

fn token(alg: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = foreign_message(alg);
    let signature = sign(message.as_bytes());
    format!("{message}.{}", B64.encode(signature))
}

#[test]
fn a_key_written_as_pem_is_the_same_key_when_read_back() {
    let key = SigningKey::generate().unwrap();
    let read = SigningKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(read.kid(), key.kid());
    assert_eq!(read.to_pkcs8(), key.to_pkcs8());
    assert_eq!(
        SigningKey::from_pkcs8(key.to_pkcs8()).unwrap().kid(),
        key.kid()
    );
    assert!(key.to_pem().lines().all(|line| line.len() <= 64));
}

#[test]
fn a_private_key_is_not_shown_by_debug() {
    let key = SigningKey::generate().unwrap();
    let shown = format!("{key:?} {:?}", KeySet::new().with_signing_key(key.clone()));
    assert!(shown.contains(key.kid()));
    assert!(!shown.contains(&format!("{:?}", &key.to_pkcs8()[16..20])));
}

#[test]
fn the_key_of_rfc_8037_has_the_thumbprint_of_rfc_8037() {
    // RFC 8037 appendix A.1 and A.3; the private half wrapped in PKCS#8 as RFC 8410 section 7 has it.
    let mut pkcs8 = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    pkcs8.extend(
        B64.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap(),
    );
    let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_published_set_holds_public_members_only() {
    let keys = KeySet::new().with_signing_key(SigningKey::generate().unwrap());
    let published = serde_json::to_value(keys.jwks()).unwrap();
    let key = published["keys"][0].as_object().unwrap();
    let mut members: Vec<_> = key.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
}

#[test]
fn a_token_signed_with_es256_by_an_identity_provider_is_believed() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1",
        "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])}]});
    let token = token("ES256", |message| {
        pair.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    });
    let access = verifier(&jwks).verify(&token, NOW).unwrap();
    assert_eq!(access.scopes, Scope::Read.into());
    assert_eq!(access.tenant, "default");
}

#[test]
fn a_token_signed_with_rs256_by_an_identity_provider_is_believed() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = jsonwebtoken::jwk::Jwk::from_decoding_key(
        &jsonwebtoken::DecodingKey::from_rsa_der(pair.public_key().as_ref()),
        None,
    );
    let mut key = serde_json::to_value(public.unwrap()).unwrap();
    key["kid"] = "k1".into();
    key["use"] = "sig".into();
    let token = token("RS256", |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .unwrap();
        signature
    });
    let verifier = verifier(&json!({"keys": [key]}));
    assert!(verifier.verify(&token, NOW).is_ok());
}

#[test]
fn keys_of_no_use_are_passed_over_and_a_set_without_any_other_is_refused() {
    let good = serde_json::to_value(
        KeySet::new()
            .with_signing_key(SigningKey::generate().unwrap())
            .jwks(),
    )
    .unwrap()["keys"][0]
        .clone();
    let mut for_encryption = good.clone();
    for_encryption["use"] = "enc".into();
    let useless = [
        json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS512"}),
        json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
        json!({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA"}),
        json!({"kid": "no type at all"}),
        json!(7),
        for_encryption,
    ];
    let mixed = json!({"keys": useless.iter().chain([&good]).collect::<Vec<_>>()});
    assert_eq!(
        KeySet::from_jwks(&mixed.to_string())
            .unwrap()
            .verification_keys()
            .len(),
        1
    );
    let none = json!({"keys": useless});
    assert_eq!(
        KeySet::from_jwks(&none.to_string()).unwrap_err(),
        KeyError::NothingUsable
    );
}

#[test]
fn a_file_that_is_no_key_says_what_was_expected() {
    for text in [
        "",
        "hello",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let error = SigningKey::from_pem(text).unwrap_err();
        assert!(error.to_string().contains("Ed25519"), "{error}");
    }
    assert!(
        KeySet::from_jwks("[]")
            .unwrap_err()
            .to_string()
            .contains("keys")
    );
}

#[test]
fn without_a_signing_key_nothing_is_signed() {
    let verification_only = KeySet::from_jwks(
        &serde_json::to_string(
            &KeySet::new()
                .with_signing_key(SigningKey::generate().unwrap())
                .jwks(),
        )
        .unwrap(),
    )
    .unwrap();
    let issuer = countersign_access::Issuer {
        keys: verification_only,
        issuer: "i".into(),
        audience: "a".into(),
    };
    let grant = countersign_access::Grant {
        subject: "s".into(),
        tenant: "default".into(),
        agent: None,
        scopes: Scope::Read.into(),
        ttl: std::time::Duration::from_secs(1),
    };
    assert_eq!(
        issuer.issue(&grant, NOW).unwrap_err(),
        KeyError::NoSigningKey
    );
}

#[test]
fn scopes_a_person_types_are_checked_and_scopes_in_a_token_are_not() {
    use countersign_access::Scopes;
    assert_eq!(
        Scopes::parse("send read").unwrap(),
        Scopes::from([Scope::Send, Scope::Read])
    );
    assert!(
        Scopes::parse("send raed")
            .unwrap_err()
            .to_string()
            .contains("raed")
    );
    assert_eq!(Scopes::parse_known("openid send"), Scope::Send.into());
}
