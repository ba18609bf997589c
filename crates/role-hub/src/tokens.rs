//! Which tokens the hub admits: those with the scope `hub` that speak for an agent.

use countersign_access::{Access, Denied, Scope, Verifier};
use countersign_rules::{AgentName, TenantName};
use signalr_server::{Identity, Refusal, TokenVerifier};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) tenant: TenantName,
    pub(crate) agent: AgentName,
    /// When the token is refused: its own end, and the allowance for clocks that differ (I15).
    pub(crate) token_expires_at_unix_s: i64,
    /// Place of the request with the token in the order of all such requests.
    pub(crate) opened: u64,
}

pub(crate) struct Tokens {
    verifier: Arc<Verifier>,
    opened: AtomicU64,
}

impl Tokens {
    pub(crate) fn new(verifier: Arc<Verifier>) -> Self {
        Self {
            verifier,
            opened: AtomicU64::new(0),
        }
    }
}

impl TokenVerifier for Tokens {
    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_unix_s = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        let access = self
            .verifier
            .verify(token, now_unix_s)
            .map_err(|denied| refusal(&denied))?;
        access
            .require(Scope::Hub)
            .map_err(|denied| refusal(&denied))?;
        let opened = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let client = client(&access, self.verifier.clock_skew(), opened)?;
        let expires_at = u64::try_from(client.token_expires_at_unix_s).unwrap_or(0);
        let user = format!("{}/{}", client.tenant, client.agent);
        Ok(Identity::user(user)
            .expiring_at(UNIX_EPOCH + Duration::from_secs(expires_at))
            .with_claims(client))
    }
}

fn client(access: &Access, clock_skew: Duration, opened: u64) -> Result<Client, Refusal> {
    let Some(agent) = &access.agent else {
        return Err(Refusal::forbidden(
            "This token speaks for no agent: ask for one whose claim 'agent' names it.",
        ));
    };
    let skew_s = i64::try_from(clock_skew.as_secs()).unwrap_or(i64::MAX);
    let bad_name = |what: &str, error| {
        Refusal::forbidden(format!("The token's {what} is not a name: {error}."))
    };
    Ok(Client {
        tenant: TenantName::parse(&access.tenant).map_err(|error| bad_name("tenant", error))?,
        agent: AgentName::parse(agent).map_err(|error| bad_name("agent", error))?,
        token_expires_at_unix_s: access.expires_at_unix_s.saturating_add(skew_s),
        opened,
    })
}

fn refusal(denied: &Denied) -> Refusal {
    let detail = format!("{denied} [{}] {}", denied.code(), denied.hint());
    match denied.status() {
        403 => Refusal::forbidden(detail),
        _ => Refusal::unauthenticated(detail),
    }
}
