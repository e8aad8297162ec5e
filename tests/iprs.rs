//! IPRS: attacks on records, one test each; the schemes; chains and beacons; a scheme of a user's own; the order's
//! laws; and the time since receipt, in a store and between two nodes.

#[path = "iprs/attacks.rs"]
mod attacks;
#[path = "iprs/chains.rs"]
mod chains;
#[path = "support/clock.rs"]
mod clock;
#[path = "iprs/format.rs"]
mod format;
#[path = "iprs/freshness.rs"]
mod freshness;
#[path = "iprs/laws.rs"]
mod laws;
#[path = "iprs/own_scheme.rs"]
mod own_scheme;
#[path = "iprs/receipt.rs"]
mod receipt;
#[path = "support/iprs.rs"]
mod support;
#[path = "support/swarms.rs"]
#[allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
mod swarms;
