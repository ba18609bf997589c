//! The centre: its store, and who carries out what the engine asks for.

use crate::config::Config;
use crate::exit::Failure;
use crate::roles::store;
use countersign_archive::DiskArchive;
use countersign_claims::FolderStore;
use countersign_driver::{Bodies, Options, Outlet, Service};
use countersign_role_api::{LargeBodies, Watchers};
use countersign_role_hub::HubOutlet;
use countersign_rules::delivery::{Centre, Effect, Input, Policy};
use std::sync::Arc;

/// Hands each effect to the role that carries it out.
struct CentreOutlet {
    hub: HubOutlet,
    watchers: Arc<Watchers>,
    bodies: LargeBodies,
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
            Effect::DropBody { body } => self.bodies.remove(body),
            Effect::BatchRecorded { batch } => return Some(Input::BatchRecorded { batch }),
            other => tracing::error!(?other, "an effect that nobody carries out"),
        }
        None
    }
}

/// Messages that leave the memory together, unless it is to keep fewer: a record of some 70 KB.
const ARCHIVE_BATCH: u64 = 1024;

/// What the configuration asks of the centre.
pub(crate) fn policy(config: &Config) -> Policy {
    Policy {
        window_messages: config.delivery.window_messages,
        window_bytes: config.delivery.window_bytes.0,
        ack_wait: config.delivery.ack_wait.0,
        strict_targets: config.delivery.strict_targets,
        retention: config.store.retention.0,
        remembered_max: config.store.remembered_messages,
        archive_batch: config.store.remembered_messages.clamp(1, ARCHIVE_BATCH) as usize,
        body_bytes_max: usize::try_from(config.delivery.body_max.0).unwrap_or(usize::MAX),
        ..Policy::default()
    }
}

/// Opens the store of large bodies.
pub(crate) fn bodies(config: &Config) -> Result<LargeBodies, Failure> {
    let directory = config.store.data_dir.join("bodies");
    let unusable = |error: std::io::Error| Failure::file(&directory, "open", &error);
    std::fs::create_dir_all(&config.store.data_dir).map_err(unusable)?;
    let store = FolderStore::open_directory(&directory).map_err(unusable)?;
    let (reserve, most) = (config.store.reserve.0, config.delivery.large_body_max.0);
    LargeBodies::new(Arc::new(store), reserve, most).map_err(unusable)
}

/// Opens the centre's journal and starts its loop.
pub(crate) fn start(
    config: &Config,
    hub: HubOutlet,
    watchers: Arc<Watchers>,
    bodies: LargeBodies,
) -> Result<Service<Centre>, Failure> {
    let directory = config.store.data_dir.join("centre");
    // Beside the journal's directory, which holds nothing else.
    let ended = config.store.data_dir.join("centre-ended.sqlite");
    let centre = || {
        let archive = DiskArchive::open(&ended).map_err(|error| error.to_string())?;
        Ok(Centre::with_archive(policy(config), archive))
    };
    let outlet = CentreOutlet {
        hub,
        watchers,
        bodies,
    };
    let opened = store::open_with(centre, &directory, config.store.reserve.0, "the centre")?;
    store::start(opened, outlet, Options::default())
}
