//! Code generated from `proto/`. It is committed, so that building needs no `protoc`;
//! `tests/proto.rs` checks that it is current.

#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

#[rustfmt::skip]
pub(crate) mod kademlia;
#[rustfmt::skip]
pub(crate) mod storage;
