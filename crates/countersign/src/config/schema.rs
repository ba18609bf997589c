//! Every key, its default, and the default's reason.

use crate::cli::Role;
use crate::durations::{DurationText, SizeText};
use countersign_rules::LaneRule;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Roles that `serve` runs when `--roles` is not given. Default: all.
    pub(crate) roles: Vec<RoleName>,
    pub(crate) store: StoreSection,
    pub(crate) hub: HubSection,
    pub(crate) acks: AcksSection,
    pub(crate) token: TokenSection,
    pub(crate) keys: KeysSection,
    pub(crate) delivery: DeliverySection,
    pub(crate) log: LogSection,
    /// Only for `agent run`.
    pub(crate) agent: Option<AgentSection>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    Api,
    Hub,
    Acks,
    Token,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Api => Role::Api,
            RoleName::Hub => Role::Hub,
            RoleName::Acks => Role::Acks,
            RoleName::Token => Role::Token,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    /// Directory of the journals. Default: countersign-data beside the configuration.
    pub(crate) data_dir: PathBuf,
    /// Disk space kept free: under it sends are refused while acks go on. Default: 256MiB, so that
    /// an hour of acknowledgements fits.
    pub(crate) reserve: SizeText,
    /// How long a finished message and its idempotency key are remembered. Default: 7d.
    pub(crate) retention: DurationText,
    /// Messages that have ended and are kept in memory; the others are on disk. Default: 65536, some
    /// 8 MB.
    pub(crate) remembered_messages: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HubSection {
    /// Address of hub and send API. Default: 127.0.0.1:7420, so that nothing is open by accident.
    pub(crate) listen: String,
    /// Origins of browsers that may connect. Default: none.
    pub(crate) allowed_origins: Vec<String>,
    /// How long a shutdown spreads the closing of connections over. Default: 5s.
    pub(crate) drain: DurationText,
    /// Most connections. Default: 100000, whose idle memory is about half a gigabyte.
    pub(crate) connections_max: u32,
    /// New connections a second, with one second's worth at once; the others get 503 and the time to come back
    /// at. Default: 500, so that after a restart the centre is not busy with a crowd that knocks alone.
    pub(crate) admissions_per_second: NonZeroU32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AcksSection {
    /// Address of the ack API. Default: 127.0.0.1:7421.
    pub(crate) listen: String,
    /// Where agents post acknowledgements; goes into every envelope. Default: the address above.
    pub(crate) public_url: Option<String>,
    /// Where a centre reads the ack journal when the ack API runs in another process.
    pub(crate) pull_url: Option<String>,
    /// File with a token of the scope `pull` for that; by default one signed with [keys].signing.
    pub(crate) pull_token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TokenSection {
    /// Address of the token service. Default: 127.0.0.1:7422.
    pub(crate) listen: String,
    /// Issuer written into and asked of tokens: the address clients reach the token service at.
    /// Default: http://127.0.0.1:7422.
    pub(crate) issuer: String,
    /// Audience written into and asked of tokens. Default: countersign.
    pub(crate) audience: String,
    /// Life of the tokens it gives out. Default: 1h.
    pub(crate) ttl: DurationText,
    /// Who may ask for tokens.
    pub(crate) clients: Vec<ClientEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientEntry {
    pub(crate) id: String,
    /// SHA-256 of the secret, in hex: the secret itself never stands in the file.
    pub(crate) secret_sha256: String,
    pub(crate) scopes: Vec<String>,
    #[serde(default = "tenant_default")]
    pub(crate) tenant: String,
    /// The agent it speaks for.
    #[serde(default)]
    pub(crate) agent: Option<String>,
}

fn tenant_default() -> String {
    countersign_access::TENANT_DEFAULT.to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeysSection {
    /// Private key that signs tokens; needed by the token role and by `token new`.
    pub(crate) signing: PathBuf,
    /// Key set that verifies tokens; needed by every role.
    pub(crate) jwks: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeliverySection {
    /// Messages in flight to one recipient. Default: 512.
    pub(crate) window_messages: u32,
    /// Bytes in flight to one recipient. Default: 4MiB.
    pub(crate) window_bytes: SizeText,
    /// Wait for a receipt before a message is pushed again. Default: 30s.
    pub(crate) ack_wait: DurationText,
    /// Whether a send to an agent that never connected and is not registered is refused. Default:
    /// true, because a mistyped name would wait in silence.
    pub(crate) strict_targets: bool,
    /// Largest body. Default: 256KiB.
    pub(crate) body_max: SizeText,
    /// Largest body that is sent before its message and referred to by it. Default: 4GiB.
    pub(crate) large_body_max: SizeText,
    /// What messages of a type get whose sender does not say otherwise. Default: nothing.
    pub(crate) types: BTreeMap<String, TypeSection>,
}

/// `[delivery.types."document.insert"]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TypeSection {
    /// What a failure means for the messages behind it in its lane: `block`, `skip` or `park`.
    /// Default: block, so that order holds and no lane stands still for good.
    pub(crate) lane_rule: LaneRuleName,
    /// Attempts at the site before the message is dead. Default: what the site says.
    pub(crate) max_attempts: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LaneRuleName {
    #[default]
    Block,
    Skip,
    Park,
}

impl From<LaneRuleName> for LaneRule {
    fn from(name: LaneRuleName) -> LaneRule {
        match name {
            LaneRuleName::Block => LaneRule::Block,
            LaneRuleName::Skip => LaneRule::Skip,
            LaneRuleName::Park => LaneRule::Park,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// `text` or `json`.
    pub(crate) format: LogFormat,
    /// As in RUST_LOG. Default: info.
    pub(crate) level: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentSection {
    /// Its name, as in its tokens.
    pub(crate) name: String,
    /// The hub, such as <https://centre.example/hub>.
    pub(crate) hub_url: String,
    /// The HTTP proxy on the way to the hub, such as <http://proxy.example:3128>. Default: none.
    pub(crate) hub_proxy: Option<String>,
    /// PEM file with authorities whose certificates are good at the hub besides those that the machine trusts.
    pub(crate) hub_ca_file: Option<PathBuf>,
    /// The ack API, such as <https://acks.example/acks/v1/acks>.
    pub(crate) ack_url: String,
    /// The token service, such as <https://centre.example/oauth2/token>.
    pub(crate) token_url: Option<String>,
    pub(crate) client_id: Option<String>,
    /// File with the client secret, mode 0600.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// File with a token, read anew for each connection; instead of a token service.
    pub(crate) token_file: Option<PathBuf>,
    /// Directory of its inbox.
    #[serde(default = "agent_data_dir")]
    pub(crate) data_dir: PathBuf,
    /// Disk space kept free.
    #[serde(default = "agent_reserve")]
    pub(crate) reserve: SizeText,
    /// Messages handed over at the same time, each of another lane. Default: 8.
    #[serde(default = "workers_default")]
    pub(crate) workers: u32,
    /// Attempts before a message is dead. Default: 10.
    #[serde(default = "attempts_default")]
    pub(crate) attempts_max: u32,
    /// Attempts that follow the first one at once, before the first wait. Default: 0, because a back
    /// office that is down is not helped by being asked again at once.
    #[serde(default)]
    pub(crate) retry_immediate: u32,
    /// The first wait; doubles. Default: 1s.
    #[serde(default = "retry_first_default")]
    pub(crate) retry_first: DurationText,
    /// Longest wait between attempts. Default: 5min.
    #[serde(default = "retry_max_default")]
    pub(crate) retry_max: DurationText,
    /// The same for messages of a type; what is not given is as above.
    #[serde(default)]
    pub(crate) types: BTreeMap<String, RetrySection>,
    pub(crate) sink: SinkSection,
}

/// `[agent.types."document.insert"]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetrySection {
    pub(crate) attempts_max: Option<u32>,
    pub(crate) retry_immediate: Option<u32>,
    pub(crate) retry_first: Option<DurationText>,
    pub(crate) retry_max: Option<DurationText>,
}

fn agent_data_dir() -> PathBuf {
    PathBuf::from("agent-data")
}
fn agent_reserve() -> SizeText {
    SizeText(64 << 20)
}
fn workers_default() -> u32 {
    8
}
fn attempts_default() -> u32 {
    10
}
fn retry_first_default() -> DurationText {
    DurationText(Duration::from_secs(1))
}
fn retry_max_default() -> DurationText {
    DurationText(Duration::from_secs(300))
}

/// Where the agent hands messages over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SinkSection {
    pub(crate) kind: SinkKind,
    /// For `http`: where to POST.
    pub(crate) url: Option<String>,
    /// For `folder`: where to write.
    pub(crate) path: Option<PathBuf>,
    /// For `http`: how long one attempt may take. Default: 30s.
    pub(crate) timeout: Option<DurationText>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SinkKind {
    Http,
    Folder,
    Stdout,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: vec![
                RoleName::Api,
                RoleName::Hub,
                RoleName::Acks,
                RoleName::Token,
            ],
            store: StoreSection::default(),
            hub: HubSection::default(),
            acks: AcksSection::default(),
            token: TokenSection::default(),
            keys: KeysSection::default(),
            delivery: DeliverySection::default(),
            log: LogSection::default(),
            agent: None,
        }
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("countersign-data"),
            reserve: SizeText(256 << 20),
            retention: DurationText(Duration::from_secs(7 * 86_400)),
            remembered_messages: 65_536,
        }
    }
}

impl Default for HubSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7420".to_owned(),
            allowed_origins: Vec::new(),
            drain: DurationText(Duration::from_secs(5)),
            connections_max: 100_000,
            admissions_per_second: const { NonZeroU32::new(500).expect("500 is not zero") },
        }
    }
}

impl Default for AcksSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7421".to_owned(),
            public_url: None,
            pull_url: None,
            pull_token_file: None,
        }
    }
}

impl Default for TokenSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7422".to_owned(),
            issuer: "http://127.0.0.1:7422".to_owned(),
            audience: "countersign".to_owned(),
            ttl: DurationText(Duration::from_secs(3600)),
            clients: Vec::new(),
        }
    }
}

impl Default for KeysSection {
    fn default() -> Self {
        Self {
            signing: PathBuf::from("keys/signing-key.pem"),
            jwks: PathBuf::from("keys/jwks.json"),
        }
    }
}

impl Default for DeliverySection {
    fn default() -> Self {
        let policy = countersign_rules::delivery::Policy::default();
        Self {
            window_messages: policy.window_messages,
            window_bytes: SizeText(policy.window_bytes),
            ack_wait: DurationText(policy.ack_wait),
            strict_targets: policy.strict_targets,
            body_max: SizeText(policy.body_bytes_max as u64),
            large_body_max: SizeText(4 << 30),
            types: BTreeMap::new(),
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}
