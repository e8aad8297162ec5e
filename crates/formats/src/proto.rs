//! Code generated from `proto/`. It is kept in the repository so that a build does not need
//! `protoc`; `tests/proto.rs` checks that it is current.

#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

#[cfg(feature = "ipns")]
#[rustfmt::skip]
pub(crate) mod ipns;
#[cfg(feature = "presence")]
#[rustfmt::skip]
pub(crate) mod presence;
#[cfg(feature = "signed")]
#[rustfmt::skip]
pub(crate) mod signed_record;
