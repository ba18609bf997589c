//! The whole of countersign in one thread, from one seed.
//!
//! A run holds the real rules, the real engine and the real journal of a centre, an ack store and
//! several agents, over simulated disks, wires, clocks, a back office and senders; breaks whatever
//! can break; and judges every event against the promises. Then everything heals, and everything
//! that was confirmed has to end within a deadline. The same seed gives the same run, to the byte.
//!
//! | module | holds |
//! |---|---|
//! | `scenario` | the seed expanded into options |
//! | `world`, `hosts`, `node` | the queue of what happens next, and the loop of a host taken apart |
//! | `centre`, `acks`, `agents`, `office`, `senders`, `operators` | the parties |
//! | `faults` | what goes wrong |
//! | [`event`], [`history`], [`invariants`] | what can happen, what did, and what had to hold |
//! | [`planted`] | the known defects that prove the judges |
//! | `finish` | the drain, and the disks read with flipped bits |

pub mod event;
pub mod history;
pub mod invariants;
pub mod planted;

mod acks;
mod agents;
mod archive;
mod centre;
mod checker;
mod faults;
mod finish;
mod hosts;
mod lanes;
mod node;
mod office;
mod operators;
mod scenario;
mod senders;
mod stats;
mod world;

pub use scenario::Scenario;
pub use stats::Stats;

use invariants::Violation;
use planted::PlantedBug;
use world::World;

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// What was done and what it led to.
    pub stats: Stats,
    /// Digest of every event with its instant: the same for the same seed.
    pub digest: u64,
    /// The first broken promise with the events that show it.
    pub violation: Option<(Violation, String)>,
}

/// Runs the world of `seed`. With a planted bug only the promise meant for it is watched.
pub fn run(
    seed: u64,
    messages: Option<usize>,
    bug: Option<&'static PlantedBug>,
    verbose: bool,
) -> Run {
    let scenario = Scenario::of(seed, messages);
    let quiet = !scenario.faults;
    let mut world = World::new(scenario, bug, verbose);
    world.run();
    let mut stats = world.stats.clone();
    stats.runs = 1;
    stats.quiet_runs = u64::from(quiet);
    stats.virtual_us = world.virtual_us();
    stats.batches_lost = world.archive.lost();
    let digest = world.checker.digest();
    let violation = world.checker.take_violation();
    if let Some((violation, _)) = &violation {
        stats.broke(violation.invariant);
    }
    Run {
        stats,
        digest,
        violation,
    }
}
