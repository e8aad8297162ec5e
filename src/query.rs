//! Reads and writes of records, as pure state machines.
//!
//! * `lookup`: the answers of a read, when its policy is satisfied, and what each peer lacks.
//!   `joined`: the content that the answers have together, `hashed`: its hashes. `dropped`: what is
//!   known of spaces that it has no place for. `versions`: what each holder has shown,
//!   deduplicated. `covered`: what the holders say that they have shown, and when it is enough.
//!   `outcome`: the result of a read, `refused`: of one that found nothing valid. `options`:
//!   policies and deadlines.
//! * `read`: which peers a read asks, and when it is settled. `delivery`: a write to several peers.
//!   Both use requests to single peers.
//! * `reader`: a read over queries of Kademlia. `record_put`: the content of a write.
//!
//! [`Behaviour`](crate::behaviour::Behaviour) and [`Dht`](crate::dht::Dht) carry them out. A
//! program that has only Kademlia's events reads with a [`RecordReader`].
//!
//! **Invariants.** No answer of a peer is trusted. The state machines do not send, wait or read a
//! clock: events and the time come in, decisions go out.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod covered;
mod delivery;
mod dropped;
mod hashed;
mod joined;
mod lookup;
mod options;
mod outcome;
mod read;
mod reader;
mod record_put;
mod refused;
mod versions;

#[cfg(test)]
pub(crate) use self::dropped::DroppedSpaces;
pub(crate) use self::{
    delivery::{Delivery, in_turns},
    joined::{Answer, CheckedAnswer, JoinedAnswers, chunks, contains},
    lookup::{Bounds, RecordLookup, Repair},
    read::{Breadth, Read},
    record_put::RecordPut,
};
pub use self::{
    lookup::ReadPolicy,
    options::{ReadOptions, WritePolicy},
    outcome::{Content, HolderCoverage, Reading, Snapshot, Withheld},
    reader::{ReadStep, RecordReader},
    refused::RefusedAnswers,
};
