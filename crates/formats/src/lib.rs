//! Record formats other than smart records, one feature each: public keys and IPNS, IPRS, presence,
//! signed records.
//!
//! Each format is a record type and a [`Validator`](smart_record_core::Validator) for it. The
//! functions are pure, as in the core.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

#[cfg(feature = "ipns")]
pub mod ipns;
#[cfg(feature = "iprs")]
pub mod iprs;
mod namespaces;
#[cfg(feature = "ipns")]
pub mod pk;
#[cfg(feature = "presence")]
pub mod presence;
mod proto;
#[cfg(feature = "signed")]
pub mod signed;

#[cfg(all(feature = "ipns", feature = "iprs", feature = "presence"))]
pub use crate::namespaces::built_in;
#[cfg(feature = "ipns")]
pub use crate::namespaces::ipfs;
