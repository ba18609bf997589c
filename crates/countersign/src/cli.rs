//! What can be typed.

mod stores;

use crate::commands::letters::DeadLetters;
use crate::commands::operations::Operations;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
pub(crate) use stores::{Acks, Backup, Restore, Store};

/// Guaranteed delivery over the SignalR protocol.
///
/// A message is on disk before the send returns, and counts as delivered only once its receiver
/// has countersigned it.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print one JSON document instead of text; its fields are those of the HTTP API.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only the id, or nothing.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on loopback with throw-away keys, a demo agent and a demo back office.
    Dev(Dev),
    /// Run the roles of a data centre.
    Serve(Serve),
    /// The agent at a site.
    #[command(subcommand)]
    Agent(Agent),
    /// Send a message; it is on disk when this returns.
    Send(Send),
    /// Look at messages.
    #[command(subcommand)]
    Messages(Messages),
    /// Messages that nobody has: look at them, by cause, do them once more, put them away.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// What was asked of many messages at once.
    #[command(subcommand)]
    Operations(Operations),
    /// Look at agents, hold messages back from them.
    #[command(subcommand)]
    Agents(Agents),
    /// Groups of agents: a send to a group reaches whoever is a member when it is accepted.
    #[command(subcommand)]
    Groups(Groups),
    /// Tokens for trying and for scripts.
    #[command(subcommand)]
    Token(Token),
    /// Signing keys.
    #[command(subcommand)]
    Keys(Keys),
    /// The configuration file.
    #[command(subcommand)]
    Config(Config),
    /// Prove from the journals of centre, ack store and agents that every promise held.
    Verify(Verify),
    /// Look at acknowledgements.
    #[command(subcommand)]
    Acks(Acks),
    /// Copy stores while they are in use.
    Backup(Backup),
    /// Make stores of backups, each with its history and in a new epoch.
    Restore(Restore),
    /// Look at stores on disk.
    #[command(subcommand)]
    Store(Store),
    /// Measure durable end-to-end throughput and latency on this machine.
    Bench(Bench),
    /// The demo back office: an HTTP service of its own over an SQLite database.
    BackOffice(BackOffice),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Keep the data here, and go on with what is there. Default: a new temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Name of the demo agent.
    #[arg(long, default_value = "clinic-001", value_name = "AGENT")]
    pub(crate) agent: String,
    /// First of the five ports used: hub and API, ack API, token service, back office, agent.
    #[arg(long, default_value_t = 7420)]
    pub(crate) port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Send API: accepts messages and answers questions about them.
    Api,
    /// The SignalR hub that clients connect to.
    Hub,
    /// The acknowledgement API, with its own journal.
    Acks,
    /// The OAuth2 token service.
    Token,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file.
    #[arg(
        long,
        env = "COUNTERSIGN_CONFIG",
        default_value = "countersign.toml",
        value_name = "FILE"
    )]
    pub(crate) config: PathBuf,
    /// The roles of this process. Default: those the configuration names.
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Vec<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Run an agent: connect, keep, hand over, acknowledge.
    Run {
        /// The configuration file.
        #[arg(
            long,
            env = "COUNTERSIGN_CONFIG",
            default_value = "countersign.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
    },
    /// Start an agent of `countersign dev` again.
    Start {
        /// The agent.
        agent: String,
        #[command(flatten)]
        server: Server,
    },
    /// Stop an agent of `countersign dev`.
    Stop {
        /// The agent.
        agent: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Which server, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// Address of the send API. Default: the one of the running `countersign dev`.
    #[arg(long, env = "COUNTERSIGN_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Bearer token. Default: the one of the running `countersign dev`.
    #[arg(
        long,
        env = "COUNTERSIGN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The recipient: AGENT; or many: group:NAME, labels:NAME=VALUE,… (whoever carries all of them), or
    /// all. An agent with such a name is agent:NAME.
    #[arg(long, value_name = "TO")]
    pub(crate) to: String,
    /// The message type, lower-case, such as document.insert.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: String,
    /// The body: JSON, @FILE, or - for standard input. A file that is not JSON travels as text
    /// with its content type.
    #[arg(default_value = "null", value_name = "DATA")]
    pub(crate) data: String,
    /// Content type of a body that is not JSON. Default: by the file's name.
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// Idempotency key. Default: a new one, so that a retry of this very command is a new message.
    #[arg(long, value_name = "KEY")]
    pub(crate) id: Option<String>,
    /// Life of the message, such as 24h.
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<String>,
    /// Push it no earlier: an instant such as 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) not_before: Option<String>,
    /// Lane within the recipient: messages of one lane keep their order.
    #[arg(long, value_name = "KEY")]
    pub(crate) order: Option<String>,
    /// What a failure means for the messages behind it in its lane: block, skip or park. Default: what
    /// its type says, else block.
    #[arg(long, value_name = "RULE")]
    pub(crate) lane_rule: Option<String>,
    /// Attempts at the site before the message is dead.
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// Of a send to many: how many have to be done for the whole to be, as 95% or as a number.
    #[arg(long, value_name = "QUORUM")]
    pub(crate) quorum: Option<String>,
    /// Of a send to many: until when, as an instant or as 2h. Then it is written down who has not.
    /// Without a quorum, all have to.
    #[arg(long, value_name = "WHEN")]
    pub(crate) deadline: Option<String>,
    /// Wait until the message has reached this state, printing each one on the way. A send to many is
    /// waited for until its quorum is reached or missed, or all have ended.
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "acknowledged")]
    pub(crate) wait: Option<String>,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub(crate) timeout: String,
    /// Print the curl command that does the same, and send nothing.
    #[arg(long)]
    pub(crate) print_curl: bool,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Messages {
    /// One message.
    Get {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Every step of one message.
    Timeline {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// The messages of a send to many, each with its agent and its state.
    Children {
        /// The id of the send.
        id: String,
        /// Only those whose agents are not done: at the deadline when that was missed, now otherwise.
        #[arg(long)]
        missing: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Take a message back that its agent cannot have yet.
    Cancel {
        /// Its id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Have a message that has ended done once more, behind what waits for its agent.
    Replay {
        /// Its id.
        id: String,
        /// Also when its agent no longer remembers it, so that it may be done twice.
        #[arg(long)]
        may_process_twice: bool,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// One agent: whether it is connected, and what waits for it.
    Get {
        /// Its name.
        agent: String,
        #[command(flatten)]
        server: Server,
    },
    /// Hold everything back from an agent; what it has already, it keeps working on.
    Pause {
        /// Its name.
        agent: String,
        /// Why: it stands in the audit trail.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
    /// Let an agent have what was held back.
    Resume {
        /// Its name.
        agent: String,
        #[command(flatten)]
        server: Server,
    },
    /// Give an agent labels, or take some away; the others stay. A send can go to whoever carries some.
    Label {
        /// Its name.
        agent: String,
        /// NAME=VALUE to give, NAME- to take away.
        #[arg(required = true, value_name = "LABEL")]
        labels: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Let a parked lane go on; the message that parked it stays as it ended. `agents get` names the
    /// parked lanes; to do that message once more first, use `messages replay`.
    ResumeLane {
        /// The agent.
        agent: String,
        /// The lane.
        lane: String,
        /// Why: it stands in the audit trail.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// The groups, each with its version and how many members it has.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// One group: its version and its members.
    Get {
        /// Its name.
        group: String,
        #[command(flatten)]
        server: Server,
    },
    /// Make agents members of a group, which begins with its first. Needs the scope admin.
    Add {
        /// The group.
        group: String,
        /// The agents.
        #[arg(required = true, value_name = "AGENT")]
        agents: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Take agents out of a group; what was sent to them stays theirs. Needs the scope admin.
    Remove {
        /// The group.
        group: String,
        /// The agents.
        #[arg(required = true, value_name = "AGENT")]
        agents: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Sign a token with the key of the configuration.
    New {
        /// Let it speak for this agent (scopes hub and ack).
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Its scopes, separated by commas. Default: hub,ack with --agent, else send,read.
        #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
        scope: Vec<String>,
        /// Its tenant.
        #[arg(long, default_value = "default", value_name = "TENANT")]
        tenant: String,
        /// Its life.
        #[arg(long, default_value = "1h", value_name = "DURATION")]
        ttl: String,
        /// The configuration file.
        #[arg(
            long,
            env = "COUNTERSIGN_CONFIG",
            default_value = "countersign.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
    },
    /// Decode and verify a token, and say why it would be refused.
    Explain {
        /// The token, or - for standard input.
        token: String,
        /// The configuration file.
        #[arg(
            long,
            env = "COUNTERSIGN_CONFIG",
            default_value = "countersign.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a signing key (Ed25519) and the key set that verifies what it signs.
    New {
        /// Directory to write signing-key.pem (mode 0600) and jwks.json to.
        #[arg(long, default_value = "keys", value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Write a short configuration, with keys and client secrets made.
    Init {
        /// Directory to write to.
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
        /// Agents to make clients for.
        #[arg(long = "agent", value_name = "AGENT")]
        agents: Vec<String>,
    },
    /// Check a configuration with the code the server itself uses.
    Check {
        /// The configuration file.
        #[arg(
            long,
            env = "COUNTERSIGN_CONFIG",
            default_value = "countersign.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
        /// Treat warnings as failures.
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Bench {
    /// Agents that receive.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) agents: u32,
    /// Bytes of each body.
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub(crate) size: usize,
    /// How long to measure, after a warm-up of 1 s.
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    pub(crate) duration: String,
    /// Messages a second, sent whether or not earlier ones are done. Default: as fast as it goes.
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// Messages sent and not yet acknowledged, when no rate is given.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) window: u32,
    /// Where to keep the data while measuring. Default: a new temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Messages that wait for absent agents meanwhile, such as 0,1000,1000000: measured one after the
    /// other, with memory for each and the time of a restart, and compared.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub(crate) waiting: Vec<u64>,
    /// Agents that are absent, with --waiting.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) away: u32,
    /// How often each number of --waiting is measured, in turn.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) rounds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Journals: centre=DIR, acks=DIR, AGENT=DIR, or a data directory that holds them. Default:
    /// those that the configuration names. They may be in use; nothing is locked or changed.
    #[arg(value_name = "JOURNAL")]
    pub(crate) journals: Vec<String>,
    /// The configuration: where journals are, and the limits that promises depend on. Default:
    /// countersign.toml when no journal is named, else none.
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Read from here on: an instant, -10m, or the number of a record of the centre.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Read up to here, likewise.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
    /// What senders were promised: a line {"id":"…","lane":"…"} for each, those of a lane in order.
    #[arg(long, value_name = "FILE")]
    pub(crate) sends: Option<PathBuf>,
    /// What the back office holds: a line {"message_id":"…","generation":1} for each row.
    #[arg(long, value_name = "FILE")]
    pub(crate) effects: Option<PathBuf>,
    /// The back office does not look at idempotency keys: declared repeats are allowed.
    #[arg(long)]
    pub(crate) keys_not_honoured: bool,
    /// How long a message may wait although nothing stands in its way.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub(crate) stuck_after: String,
    /// Fail also when something cannot be decided.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackOffice {
    /// Address to listen at.
    #[arg(long, default_value = "127.0.0.1:7423", value_name = "ADDRESS")]
    pub(crate) listen: String,
    /// Directory of its database.
    #[arg(long, default_value = "back-office-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
}
