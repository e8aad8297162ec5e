//! Presence: announcing, the laws of joining, the store, two swarms, and attacks, one test each: by replay, at
//! the wrong time, by the wrong signer, in the wrong form or size. Each is tried on the validator, the reader, the
//! join, the selection and a replica; see `refused` in `forge.rs`.

#![allow(clippy::unwrap_used)]

#[path = "presence/announcing.rs"]
mod announcing;
#[path = "support/clock.rs"]
mod clock;
#[path = "presence/contents.rs"]
mod contents;
#[path = "presence/forge.rs"]
mod forge;
#[path = "presence/forms.rs"]
mod forms;
#[path = "support/keys.rs"]
#[allow(dead_code, reason = "the tests of pk and ipns use the rest")]
mod keys;
#[path = "presence/laws.rs"]
mod laws;
#[path = "presence/network.rs"]
mod network;
#[path = "presence/parties.rs"]
mod parties;
#[path = "presence/replays.rs"]
mod replays;
#[path = "presence/signers.rs"]
mod signers;
#[path = "presence/sizes.rs"]
mod sizes;
#[path = "presence/store.rs"]
mod store;
#[path = "support/swarms.rs"]
#[allow(dead_code, reason = "the tests of traps use the rest")]
mod swarms;
#[path = "presence/times.rs"]
mod times;
#[path = "presence/withdrawals.rs"]
mod withdrawals;
