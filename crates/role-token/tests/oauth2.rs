//! The token endpoint against the tables of RFC 6749, 7517 and 8414, from the outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_access as access;
use countersign_access::{KeySet, Scope, Scopes, SigningKey, Verifier};
use countersign_role_token::{Client, Error, Options, SecretDigest, TokenService};
use serde_json::Value;
use tower::ServiceExt;

const ISSUER: &str = "http://127.0.0.1:7422";
const FORM: &str = "application/x-www-form-urlencoded";

fn clients() -> Vec<Client> {
    let client = |id: &str, secret: &str, scopes: Scopes, agent: Option<&str>| Client {
        id: id.into(),
        secret_sha256: SecretDigest::of(secret),
        scopes,
        tenant: "default".into(),
        agent: agent.map(Into::into),
    };
    vec![
        client(
            "clinic-001",
            "s3cret",
            [Scope::Hub, Scope::Ack].into(),
            Some("clinic-001"),
        ),
        client("sender", "a b:c%+=&", Scope::Send.into(), None),
    ]
}

fn options() -> Options {
    let mut options = Options::new(ISSUER, "countersign");
    options.access_token_ttl = Duration::from_secs(10);
    options.clients = clients();
    options
}

fn service() -> TokenService {
    let keys = KeySet::new().with_signing_key(SigningKey::generate().unwrap());
    TokenService::new(options(), keys).unwrap()
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Value,
}

async fn call(service: &TokenService, request: Request<Body>) -> Answer {
    let response = service.router().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), 100_000).await.unwrap();
    Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

async fn ask(service: &TokenService, basic: Option<&str>, body: &str) -> Answer {
    let mut request = Request::post("/oauth2/token").header(header::CONTENT_TYPE, FORM);
    if let Some(basic) = basic {
        let value = format!("Basic {}", STANDARD.encode(basic));
        request = request.header(header::AUTHORIZATION, value);
    }
    call(service, request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn get(service: &TokenService, path: &str) -> Answer {
    call(service, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_client_gets_a_token_that_the_published_keys_verify() {
    let service = service();
    let jwks = get(&service, "/.well-known/jwks.json").await.body;
    let keys = KeySet::from_jwks(&jwks.to_string()).unwrap();
    let verifier = Verifier::new(keys, access::Options::new(ISSUER, "countersign"));
    for (basic, body) in [
        (Some("clinic-001:s3cret"), "grant_type=client_credentials"),
        (
            None,
            "grant_type=client_credentials&client_id=clinic-001&client_secret=s3cret",
        ),
        (
            Some("clinic-001:s3cret"),
            "grant_type=client_credentials&client_id=clinic-001",
        ),
        (
            Some("clinic-001:s3cret"),
            "grant_type=client_credentials&scope=&resource=x",
        ),
    ] {
        let answer = ask(&service, basic, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.body);
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers[header::PRAGMA], "no-cache");
        assert_eq!(answer.body["token_type"], "Bearer");
        assert_eq!(answer.body["expires_in"], 10);
        assert_eq!(answer.body["scope"], "ack hub");
        let token = answer.body["access_token"].as_str().unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let access = verifier.verify(token, now.try_into().unwrap()).unwrap();
        assert_eq!(access.subject, "clinic-001");
        assert_eq!(access.agent.as_deref(), Some("clinic-001"));
    }
}

#[tokio::test]
async fn a_client_may_ask_for_less_than_it_may_have() {
    let body = "grant_type=client_credentials&scope=ack";
    let answer = ask(&service(), Some("clinic-001:s3cret"), body).await;
    assert_eq!(answer.body["scope"], "ack");
}

#[tokio::test]
async fn a_secret_with_odd_characters_works_form_encoded_in_both_places() {
    // RFC 6749 section 2.3.1 encodes each half before joining them.
    let encoded = "a+b%3Ac%25%2B%3D%26";
    let basic = format!("sender:{encoded}");
    let body = format!("grant_type=client_credentials&client_id=sender&client_secret={encoded}");
    for (basic, body) in [
        (Some(basic.as_str()), "grant_type=client_credentials"),
        (None, body.as_str()),
    ] {
        let answer = ask(&service(), basic, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

#[tokio::test]
async fn each_fault_has_the_code_of_rfc_6749() {
    let good = Some("clinic-001:s3cret");
    let cc = "grant_type=client_credentials";
    let table = [
        (
            "wrong secret",
            Some("clinic-001:wrong"),
            cc.to_owned(),
            "invalid_client",
        ),
        (
            "no secret",
            Some("clinic-001:"),
            cc.into(),
            "invalid_client",
        ),
        (
            "unknown client",
            Some("nobody:s3cret"),
            cc.into(),
            "invalid_client",
        ),
        ("no colon", Some("clinic-001"), cc.into(), "invalid_client"),
        ("no credentials", None, cc.into(), "invalid_client"),
        (
            "id without secret",
            None,
            format!("{cc}&client_id=clinic-001"),
            "invalid_client",
        ),
        (
            "twice",
            good,
            format!("{cc}&client_secret=s3cret"),
            "invalid_request",
        ),
        (
            "two clients",
            good,
            format!("{cc}&client_id=sender"),
            "invalid_request",
        ),
        ("repeated", good, format!("{cc}&{cc}"), "invalid_request"),
        ("no grant type", good, "scope=ack".into(), "invalid_request"),
        (
            "empty grant type",
            good,
            "grant_type=".into(),
            "invalid_request",
        ),
        (
            "password grant",
            good,
            "grant_type=password".into(),
            "unsupported_grant_type",
        ),
        (
            "refresh",
            good,
            "grant_type=refresh_token".into(),
            "unsupported_grant_type",
        ),
        (
            "scope not allowed",
            good,
            format!("{cc}&scope=ack+admin"),
            "invalid_scope",
        ),
        (
            "scope unknown",
            good,
            format!("{cc}&scope=everything"),
            "invalid_scope",
        ),
    ];
    let service = service();
    for (what, basic, body, code) in table {
        let answer = ask(&service, basic, &body).await;
        assert_eq!(answer.body["error"], code, "{what}");
        let is_client = code == "invalid_client";
        assert_eq!(
            answer.status.as_u16(),
            if is_client { 401 } else { 400 },
            "{what}"
        );
        assert_eq!(
            answer.headers.contains_key(header::WWW_AUTHENTICATE),
            is_client,
            "{what}"
        );
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{what}");
        let description = answer.body["error_description"].as_str().unwrap();
        assert!(
            !description.is_empty() && !description.contains(['"', '\\']),
            "{description}"
        );
    }
}

#[tokio::test]
async fn the_body_must_be_a_short_form_and_the_method_post() {
    let service = service();
    let json = Request::post("/oauth2/token")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(r#"{"grant_type":"client_credentials"}"#))
        .unwrap();
    assert_eq!(call(&service, json).await.body["error"], "invalid_request");
    let long = ask(&service, None, &"x".repeat(20_000)).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    let by_get = get(&service, "/oauth2/token?grant_type=client_credentials").await;
    assert_eq!(by_get.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_metadata_names_the_other_routes_below_the_issuer() {
    let answer = get(&service(), "/.well-known/oauth-authorization-server").await;
    assert_eq!(answer.body["issuer"], ISSUER);
    assert_eq!(
        answer.body["token_endpoint"],
        format!("{ISSUER}/oauth2/token")
    );
    assert_eq!(
        answer.body["jwks_uri"],
        format!("{ISSUER}/.well-known/jwks.json")
    );
    assert_eq!(
        answer.body["grant_types_supported"][0],
        "client_credentials"
    );
    assert!(answer.body["response_types_supported"].is_array());
}

#[tokio::test]
async fn the_key_set_is_typed_and_may_be_kept_for_a_while() {
    let answer = get(&service(), "/.well-known/jwks.json").await;
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/jwk-set+json"
    );
    assert!(
        answer.headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("max-age")
    );
    assert_eq!(answer.body["keys"][0]["kty"], "OKP");
    assert!(answer.body["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn health_needs_no_token() {
    assert_eq!(get(&service(), "/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn new_keys_sign_and_are_published_at_once() {
    let (service, new) = (service(), SigningKey::generate().unwrap());
    service
        .replace_keys(KeySet::new().with_signing_key(new.clone()))
        .unwrap();
    let published = get(&service, "/.well-known/jwks.json").await.body;
    assert_eq!(published["keys"][0]["kid"], new.kid());
    assert_eq!(
        service.replace_keys(KeySet::new()),
        Err(Error::NoSigningKey)
    );
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_cause() {
    let keys = || KeySet::new().with_signing_key(SigningKey::generate().unwrap());
    let refused = |change: fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        TokenService::new(options, keys()).map(|_| ()).unwrap_err()
    };
    for issuer in [
        "",
        "tokens.example",
        "https://",
        "https://x/?a=1",
        "https://x#y",
        "ftp://x",
    ] {
        let mut options = options();
        options.issuer = issuer.into();
        let error = TokenService::new(options, keys()).map(|_| ()).unwrap_err();
        assert_eq!(error, Error::Issuer { got: issuer.into() });
    }
    assert_eq!(
        refused(|o| o.access_token_ttl = Duration::from_millis(999)),
        Error::Lifetime
    );
    assert_eq!(
        refused(|o| o.clients.push(o.clients[0].clone())),
        Error::DuplicateClient {
            id: "clinic-001".into()
        }
    );
    let error = TokenService::new(options(), KeySet::new())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error, Error::NoSigningKey);
}

#[test]
fn a_digest_is_read_as_it_is_written_and_not_shown_by_debug() {
    let digest = SecretDigest::of("s3cret");
    let hex = digest.to_string();
    assert_eq!(SecretDigest::from_hex(&hex).unwrap().to_string(), hex);
    assert!(!format!("{digest:?}").contains(&hex[..8]));
    for text in ["", "abc", &hex[1..], &hex.replace(&hex[..1], "g"), "é"] {
        assert!(SecretDigest::from_hex(text).is_err(), "{text}");
    }
}
