//! Shows what is in a token and everything that speaks against it, for `token explain`.

use serde::Serialize;
use serde_json::Value;

use crate::verifier::Parts;
use crate::{Claims, Denied, Verifier};

/// What a token holds, and the verdict on it. Not secret: the signature is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// Its header, if it can be read.
    pub header: Option<Value>,
    /// Its claims, if they can be read. Not believed unless [`accepted`](Self::accepted).
    pub claims: Option<Value>,
    /// Seconds until it expires; negative when it has.
    pub expires_in_s: Option<i64>,
    /// Whether this verifier would accept it.
    pub accepted: bool,
    /// Every reason for which it would be refused, the weightiest first.
    pub refusals: Vec<Refusal>,
}

/// One reason for a refusal, in the words the API would use.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// Stable code.
    pub code: &'static str,
    /// The HTTP status it leads to.
    pub status: u16,
    /// One sentence.
    pub reason: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl From<&Denied> for Refusal {
    fn from(denied: &Denied) -> Self {
        Self {
            code: denied.code(),
            status: denied.status(),
            reason: denied.to_string(),
            hint: denied.hint(),
        }
    }
}

impl Verifier {
    /// Takes a token apart and says everything that speaks against it, not only the first thing.
    ///
    /// Never fails: a token that cannot be read is explained as such.
    #[must_use]
    pub fn explain(&self, token: &str, now_unix_s: i64) -> Explanation {
        let parts = match Parts::split(token) {
            Ok(parts) => parts,
            Err(denied) => return Explanation::unreadable(&denied),
        };
        let mut faults = Vec::from_iter(self.signature_fault(&parts));
        let claims = parts.claims::<Claims>();
        match &claims {
            Ok(claims) => faults.extend(self.claim_faults(claims, now_unix_s)),
            Err(denied) => faults.push(denied.clone()),
        }
        Explanation {
            header: parts.header_json(),
            claims: parts.claims::<Value>().ok(),
            expires_in_s: claims
                .ok()
                .map(|claims| claims.exp.saturating_sub(now_unix_s)),
            accepted: faults.is_empty(),
            refusals: faults.iter().map(Refusal::from).collect(),
        }
    }
}

impl Explanation {
    fn unreadable(denied: &Denied) -> Self {
        Self {
            header: None,
            claims: None,
            expires_in_s: None,
            accepted: false,
            refusals: vec![denied.into()],
        }
    }
}
