//! The centre: its store, and who carries out what the engine asks for.

use crate::config::Config;
use crate::exit::Failure;
use crate::roles::store;
use countersign_archive::DiskArchive;
use countersign_driver::{Bodies, Options, Outlet, Service};
use countersign_role_api::Watchers;
use countersign_role_hub::HubOutlet;
use countersign_rules::delivery::{Centre, Effect, Input, Policy};
use std::path::Path;
use std::sync::Arc;

/// Hands each effect to the role that carries it out.
struct CentreOutlet {
    hub: HubOutlet,
    watchers: Arc<Watchers>,
}

impl Outlet<Centre> for CentreOutlet {
    fn carry_out(&mut self, effect: Effect, bodies: &Bodies) -> Option<Input> {
        match effect {
            Effect::Push(push) => return self.hub.push(&push, |at| bodies.read(at)),
            Effect::Supersede { connection } => self.hub.supersede(connection),
            Effect::Resume { connection, lanes } => self.hub.resume(connection, &lanes),
            Effect::Changed { id } => self.watchers.changed(id),
            Effect::CopyForward { id, accepted } => match bodies.read(accepted) {
                Ok(accepted) => return Some(Input::Carry { id, accepted }),
                Err(error) => tracing::error!(%id, %error, "a message cannot be copied forward"),
            },
            Effect::BatchRecorded { batch } => return Some(Input::BatchRecorded { batch }),
            other => tracing::error!(?other, "an effect that nobody carries out"),
        }
        None
    }
}

/// What is remembered of messages that have ended. It stands beside the journal's directory, which
/// holds nothing else.
fn archive(data_dir: &Path) -> Result<DiskArchive, Failure> {
    std::fs::create_dir_all(data_dir).map_err(|error| Failure::file(data_dir, "create", &error))?;
    let path = data_dir.join("centre-ended.sqlite");
    DiskArchive::open(&path)
        .map_err(|error| Failure::unexpected("cannot open what is remembered of messages", error))
}

/// What the configuration asks of the centre.
pub(crate) fn policy(config: &Config) -> Policy {
    Policy {
        window_messages: config.delivery.window_messages,
        window_bytes: config.delivery.window_bytes.0,
        ack_wait: config.delivery.ack_wait.0,
        strict_targets: config.delivery.strict_targets,
        retention: config.store.retention.0,
        body_bytes_max: usize::try_from(config.delivery.body_max.0).unwrap_or(usize::MAX),
        ..Policy::default()
    }
}

/// Opens the centre's journal and starts its loop.
pub(crate) fn start(
    config: &Config,
    hub: HubOutlet,
    watchers: Arc<Watchers>,
) -> Result<Service<Centre>, Failure> {
    let directory = config.store.data_dir.join("centre");
    let archive = archive(&config.store.data_dir)?;
    let opened = store::open(
        Centre::with_archive(policy(config), archive),
        &directory,
        config.store.reserve.0,
        "the centre",
    )?;
    store::start(opened, CentreOutlet { hub, watchers }, Options::default())
}
