//! The ack store: opened, and heard of by whoever follows it.

use crate::config::Config;
use crate::exit::Failure;
use crate::roles::store;
use countersign_driver::{Bodies, Options, Outlet, Service};
use countersign_rules::ack::{AckStore, Grew, Post};

/// Growth is told by the durable position, so the effect itself needs nothing done.
struct Followed;

impl Outlet<AckStore> for Followed {
    fn carry_out(&mut self, Grew(_): Grew, _bodies: &Bodies) -> Option<Post> {
        None
    }
}

/// Opens the ack journal and starts its loop. Its records are held until the centre has read them.
pub(crate) fn start(config: &Config) -> Result<Service<AckStore>, Failure> {
    let directory = config.store.data_dir.join("acks");
    let opened = store::open(
        AckStore::new(),
        &directory,
        config.store.reserve.0,
        "the ack API",
    )?;
    store::start(
        opened,
        Followed,
        Options {
            held: true,
            ..Options::default()
        },
    )
}
