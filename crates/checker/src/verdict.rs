//! The invariants by name, and what a broken one looks like.

use countersign_rules::{MessageId, Position};
use std::fmt;

/// A party that keeps a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The centre.
    Centre,
    /// The ack store.
    Acks,
    /// The site with this number, from 0 in the order told.
    Site(usize),
}

macro_rules! invariants {
    ($($name:ident = $promise:literal,)*) => {
        /// A promise of the product.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the names are those of the guarantees")]
        pub enum Invariant { $($name,)* }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Invariant] = &[$(Invariant::$name,)*];

            /// What it promises, in a few words.
            pub fn promise(self) -> &'static str {
                match self { $(Invariant::$name => $promise,)* }
            }
        }
    };
}

invariants! {
    I1 = "durable send",
    I2 = "no phantom",
    I3 = "one message per key",
    I4 = "conservation",
    I5 = "delivery",
    I6 = "lane order",
    I7 = "every duplicate has a cause",
    I8 = "inbox before received",
    I9 = "no false success",
    I10 = "one effect",
    I11 = "acks are monotone, exact, durable",
    I12 = "independent ack path",
    I13 = "reconnect re-offers, gaps are told",
    I14 = "one current term",
    I15 = "nothing is pushed after a token's end",
    I16 = "window",
    I17 = "refuse before, never drop after",
    I18 = "crash anywhere",
    I19 = "full disk and failed flush",
    I20 = "corruption is never served and never silent",
    I21 = "clocks do not matter to safety",
    I22 = "node loss",
    I23 = "poison is bounded and alone",
    I24 = "replay makes attempts, not messages",
    I25 = "expiry, cancel and a later instant are decisions",
    I26 = "fan-out is complete",
    I27 = "saga step is atomic",
    I28 = "records equal state",
    I29 = "restore and upgrade are honest",
    I30 = "tenant walls",
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub says: String,
    /// The messages that show it.
    pub about: Vec<MessageId>,
    /// The record at which it was seen, when it was seen at one.
    pub at: Option<(Party, Position)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = self.invariant.promise();
        write!(f, "{:?} ({promise}): {}", self.invariant, self.says)
    }
}
