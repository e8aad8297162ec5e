//! Kademlia lookups as pure state machines.
//!
//! * [`Lookup`]: one iterative lookup. It decides which peer to ask next and when the closest peers
//!   are known.
//! * [`Requests`]: state shared by all lookups of a node. It bounds the concurrent requests,
//!   decides how long to wait for each, and remembers how peers have answered ([`PeerHistory`]).
//! * [`NetworkSize`]: an estimate of the number of peers, from the distances of found peers.
//!
//! A driver passes each request to a transport and reports the outcome:
//!
//! ```text
//! Lookup::next(&mut Requests, now)  -> Some((id, peer))      send to the peer under this id
//! transport: answered(id, closer)   -> Requests::on_answer(id, now), then Lookup::on_answer(peer, subnets, closer)
//! transport: failed(id, why)        -> Requests::on_failure(id, why, now), then Lookup::on_failure(peer)
//! Requests::poll(now)               -> LookupEvent::Late(id, peer)   Lookup::on_late(peer)
//!                                      LookupEvent::Over(id, peer)   cancel at the transport, then Lookup::on_failure(peer)
//!                                      LookupEvent::Evict(peer)      remove it from the routing table
//! ```
//!
//! The transport needs no timeouts and no limits of streams: both are decided here.
//!
//! **Invariants.** No clock, no randomness, no I/O: the same calls give the same results. Time is a
//! [`Duration`](std::time::Duration) since an instant chosen by the driver and never decreases.
//! Every request ends: it is answered, fails, or is over. Memory is bounded. Answers of peers are
//! not trusted.
//!
//! **Spec.** [Kademlia](https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf),
//! section 2.3; the [libp2p
//! specification](https://github.com/libp2p/specs/tree/master/kad-dht#peer-routing).

#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod distance;
mod history;
mod lookup;
mod requests;
mod size;
mod subnet;

pub use crate::{
    distance::{Distance, Place},
    history::{HistoryConfig, PeerHistory},
    lookup::{Lookup, LookupConfig, LookupKind, Named},
    requests::{Failure, LookupEvent, RequestId, Requests, RequestsConfig},
    size::NetworkSize,
    subnet::{Subnet, SubnetShares},
};
