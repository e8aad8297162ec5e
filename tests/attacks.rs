//! Attacks on smart records, one test each: by whoever may sign, replay, damage, flood or garble.
//!
//! Each is tried on the validator (the exact reason), on the join (the bad part is left out, its neighbour
//! stays) and on the store as Kademlia uses it (a remote PUT returns `Ok`, stores nothing bad, keeps the
//! neighbour, and tells in an event and a counter why). See `refused` and `accepted` in `support/forge.rs`.

#[path = "support/clock.rs"]
mod clock;
#[path = "attacks/crowds.rs"]
mod crowds;
#[path = "attacks/documents.rs"]
mod documents;
#[path = "support/forge.rs"]
mod forge;
#[path = "attacks/forgeries.rs"]
mod forgeries;
#[path = "attacks/garbage.rs"]
mod garbage;
#[path = "attacks/keys.rs"]
mod keys;
#[path = "attacks/replays.rs"]
mod replays;
#[path = "attacks/signatures.rs"]
mod signatures;
#[path = "attacks/sizes.rs"]
mod sizes;
#[path = "attacks/times.rs"]
mod times;
