//! Code generated from `proto/`. It is committed, so that a build does not need `protoc`.
//! `tests/proto.rs` checks that it is current.

#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

#[rustfmt::skip]
pub mod smart_record;
