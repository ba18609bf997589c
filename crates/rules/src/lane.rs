//! What a message of a lane does to those behind it when it fails.

use crate::message::LaneName;
use serde::{Deserialize, Serialize};

/// What the failure of a message means for the messages behind it in its lane.
///
/// It is chosen for each message: by its sender, else by its type. It stands in the message's
/// record and in its envelope, so that the centre and the site go by the same one, whatever becomes
/// of the configuration.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum LaneRule {
    /// They wait while it is tried again, and go on once it has ended, however it ended.
    ///
    /// The default: order holds, and one poisoned document stops its lane no longer than its
    /// attempts last.
    #[default]
    Block,
    /// They go on while it waits to be tried again; each time they do is recorded.
    Skip,
    /// They wait while it is tried again; when it ends dead or rejected, the lane is parked: they
    /// are held until somebody resumes the lane, or has the message done once more with success.
    Park,
}

impl LaneRule {
    /// The word used on the HTTP API, in envelopes and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LaneRule::Block => "block",
            LaneRule::Skip => "skip",
            LaneRule::Park => "park",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [LaneRule::Block, LaneRule::Skip, LaneRule::Park];
        all.into_iter().find(|rule| rule.as_str() == word)
    }
}

/// A lane of one recipient and the rule of one message, in four bytes.
///
/// The lane is a hash of 31 bits: the centre remembers millions of messages, and only asks whether
/// one is of a parked lane. Two lanes of one recipient that share a hash would be parked together
/// at the centre, once in two thousand million pairs; the site goes by names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaneMark(u32);

impl LaneMark {
    pub(crate) fn new(lane: &str, rule: LaneRule) -> Self {
        Self(hash(lane) << 1 | u32::from(rule == LaneRule::Park))
    }

    /// The lane, among those of its recipient.
    pub(crate) fn lane(self) -> LaneHash {
        LaneHash(self.0 >> 1)
    }

    /// For records.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// What [`LaneMark::bits`] gave.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether the failure of the message parks its lane.
    pub(crate) fn parks(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A lane among those of one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LaneHash(u32);

impl LaneHash {
    pub(crate) fn of(lane: &LaneName) -> Self {
        Self(hash(lane.as_str()) & (u32::MAX >> 1))
    }
}

/// FNV-1a: it stands in images, so it must be the same in every version of this program.
fn hash(text: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_the_lane_and_whether_a_failure_parks_it() {
        let lane = LaneName::parse("customer 7").unwrap();
        for (rule, parks) in [
            (LaneRule::Block, false),
            (LaneRule::Skip, false),
            (LaneRule::Park, true),
        ] {
            let mark = LaneMark::new(lane.as_str(), rule);
            assert_eq!((mark.lane(), mark.parks()), (LaneHash::of(&lane), parks));
            assert_eq!(LaneRule::parse(rule.as_str()), Some(rule));
        }
        let other = LaneName::parse("customer 8").unwrap();
        assert_ne!(LaneHash::of(&lane), LaneHash::of(&other));
        assert_eq!(LaneRule::parse("stop"), None);
    }

    #[test]
    fn the_hash_is_the_one_that_images_hold() {
        assert_eq!(hash(""), 0x811c_9dc5);
        assert_eq!(hash("foobar"), 0xbf9c_f968);
    }
}
