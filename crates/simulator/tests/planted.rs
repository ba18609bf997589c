//! Each promise is shown to catch a defect that was planted for it.

use countersign_simulator::invariants::Invariant;
use countersign_simulator::planted::PLANTED;
use countersign_simulator::run;

/// Seeds within which a defect has to be caught.
const SEEDS: u64 = 200;

#[test]
fn every_planted_bug_is_caught_by_the_promise_meant_for_it() {
    let mut missed = Vec::new();
    for bug in PLANTED {
        let caught = (1..=SEEDS).find_map(|seed| {
            let (violation, _) = run(seed, None, Some(bug), false).violation?;
            assert_eq!(violation.invariant, bug.breaks, "{}", bug.name);
            Some((seed, violation))
        });
        match caught {
            Some((seed, violation)) => println!("{} by seed {seed}: {violation}", bug.name),
            None => missed.push(bug.name),
        }
    }
    assert!(
        missed.is_empty(),
        "not caught within {SEEDS} seeds: {missed:?}"
    );
}

#[test]
fn every_promise_that_crashes_and_disks_can_break_has_a_planted_bug() {
    use Invariant::*;
    for promise in [
        I1, I2, I3, I4, I6, I7, I8, I9, I11, I13, I14, I16, I18, I19, I20, I23, I24, I25, I26,
    ] {
        let planted = PLANTED.iter().any(|bug| bug.breaks == promise);
        assert!(planted, "{promise:?} was never shown to catch anything");
    }
}
