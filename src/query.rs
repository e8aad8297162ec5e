//! What is asked of the peers closest to a key, and what they are sent: pure state machines over Kademlia's queries.
//!
//! * `lookup`: a read; when it has seen enough, and who lacks what. `joined`: what its answers say together. `outcome`: what
//!   comes of it.
//! * `spread`: a write on its way.
//!
//! [`Behaviour`](crate::behaviour::Behaviour) and [`Dht`](crate::dht::Dht) carry them out. A
//! program that has only Kademlia's events reads with a [`RecordReader`].
//!
//! **Invariants.** Nothing that a peer answers is believed. No state machine asks, sends or waits by itself: events and the
//! time come in, decisions go out. What Kademlia says of its queries is taken note of here and nowhere else.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

mod joined;
mod lookup;
mod outcome;
mod reader;
mod spread;

pub(crate) use self::{
    joined::{Joined, Said, chunks},
    lookup::{Bounds, Lookup, Repair},
    spread::Spread,
};
pub use self::{
    lookup::ReadPolicy,
    outcome::{Content, Reading, Snapshot, Withheld},
    reader::{ReadStep, RecordReader},
};
