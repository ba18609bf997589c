//! Reads a token request: RFC 6749 sections 2.3.1 and 4.4.2. Decides nothing about the client.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_access::Scopes;

use crate::refusal::Refusal;

/// A client credentials request, as it was sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// `None` when it asked for no scope in particular.
    pub(crate) scopes: Option<Scopes>,
}

impl Request {
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let form = Form::read(headers, body)?;
        match form.grant_type.as_deref() {
            Some("client_credentials") => {}
            Some(other) => return Err(Refusal::UnsupportedGrantType(other.to_owned())),
            None => return Err(invalid("the parameter grant_type is missing")),
        }
        let scopes = match form.scope.as_deref() {
            None => None,
            Some(names) => Some(
                Scopes::parse(names).map_err(|error| Refusal::InvalidScope(error.to_string()))?,
            ),
        };
        let (id, secret) = credentials(headers, form.client_id, form.client_secret)?;
        Ok(Self { id, secret, scopes })
    }
}

/// The parameters we know. Others are ignored (RFC 6749 section 3.2).
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl Form {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        if !is_form(headers) {
            return Err(invalid(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let field = match name.as_ref() {
                "grant_type" => &mut form.grant_type,
                "scope" => &mut form.scope,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                _ => continue,
            };
            // Section 3.2: without a value as if omitted, and never twice.
            if value.is_empty() {
                continue;
            }
            if field.replace(value.into_owned()).is_some() {
                return Err(Refusal::InvalidRequest(format!(
                    "the parameter {name} is there twice"
                )));
            }
        }
        Ok(form)
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Section 2.3: HTTP Basic or the body, not both.
fn credentials(
    headers: &HeaderMap,
    form_id: Option<String>,
    form_secret: Option<String>,
) -> Result<(String, String), Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return match (form_id, form_secret) {
            (Some(id), Some(secret)) => Ok((id, secret)),
            _ => Err(Refusal::InvalidClient),
        };
    };
    if form_secret.is_some() {
        return Err(invalid(
            "the client proves itself twice, in the header and in the body",
        ));
    }
    let (id, secret) = value
        .to_str()
        .ok()
        .and_then(basic)
        .ok_or(Refusal::InvalidClient)?;
    match form_id {
        Some(form_id) if form_id != id => {
            Err(invalid("the header and the body name different clients"))
        }
        _ => Ok((id, secret)),
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

/// Section 2.3.1: both halves are form-encoded before they are joined. A client that does not encode (`curl -u`) is
/// understood as long as its characters mean themselves, so a bare `=` or `&` is taken as such.
fn form_decoded(text: &str) -> String {
    let text = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

fn invalid(description: &str) -> Refusal {
    Refusal::InvalidRequest(description.to_owned())
}
