//! What is asked of the peers closest to a key, and what they are sent: pure state machines.
//!
//! * `lookup`: what a read has gathered; when its policy is satisfied, and who lacks what. `joined`: what its answers say together.
//!   `outcome`: what comes of it. `options`: how much certainty is asked for.
//! * `read`: whom a read asks, and when it is settled. `delivery`: a write on its way. Over requests to single peers.
//! * `reader`: a read over a query of Kademlia. `record_put`: what is written, and how a query of Kademlia sends it.
//!
//! [`Behaviour`](crate::behaviour::Behaviour) and [`Dht`](crate::dht::Dht) carry them out. A
//! program that has only Kademlia's events reads with a [`RecordReader`].
//!
//! **Invariants.** Nothing that a peer answers is believed. No state machine asks, sends or waits by itself: events and the
//! time come in, decisions go out. What Kademlia says of its queries is taken note of here and nowhere else.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod delivery;
mod joined;
mod lookup;
mod options;
mod outcome;
mod read;
mod reader;
mod record_put;
mod versions;

pub(crate) use self::{
    delivery::Delivery,
    joined::{JoinedAnswers, Said, chunks, contains},
    lookup::{Bounds, RecordLookup, Repair},
    read::Read,
    record_put::RecordPut,
};
pub use self::{
    lookup::ReadPolicy,
    options::{ReadOptions, WritePolicy},
    outcome::{Content, Reading, Snapshot, Withheld},
    reader::{ReadStep, RecordReader},
};
