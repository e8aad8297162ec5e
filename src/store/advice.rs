//! Log hints about refused local writes.
//!
//! Kademlia reports only [`MaxRecords`](libp2p_kad::store::Error::MaxRecords) or
//! [`ValueTooLarge`](libp2p_kad::store::Error::ValueTooLarge) to its caller, so the reason is in
//! the log.

use super::StoreConfig;
use smart_record_core::{Fault, Limit, PolicyRefusal, ValidationError};

/// What the user can do about a refused local write.
pub(super) fn advice(reason: &ValidationError) -> &'static str {
    let limit = match reason {
        ValidationError::LimitExceeded(exceeded) => Some(exceeded.limit),
        _ => None,
    };
    match (reason.fault(), limit) {
        (Fault::Unsupported, _) => {
            "register the namespace (`Registry::with`), or take keys of any form as libp2p's \
             `MemoryStore` does (`SmartRecordStore::drop_in`)"
        }
        (_, Some(StoreConfig::CHUNK_BYTES)) => {
            "no packet carries it: put a smart record in chunks (`SmartRecord::chunks`, `Dht::put`, \
             `Client`), and make a value smaller"
        }
        (_, Some(limit)) if StoreConfig::ROOM.contains(&limit) => {
            "the store is full: raise the bounds of its `StoreConfig`"
        }
        (_, Some(Limit::CLOCK_SKEW)) => "set this machine's clock, or the one of the signer",
        (Fault::LimitExceeded, _) => {
            "make it smaller or its lifetime shorter: replicas refuse it as well (`Limits`)"
        }
        (Fault::Malformed | Fault::Caller, _) => {
            "check that these are the bytes of a signed record of this namespace; a document is \
             signed with `SpaceSigner` or `Client::publish`"
        }
        (Fault::Invalid, _) => "check that it was signed for this key, by its owner",
        (Fault::Expired, _) => "sign it anew, and check this machine's clock",
        (Fault::Stale, _) => "read the record first, and sign a newer one",
        _ if needs_work(reason) => {
            "find a stamp of enough bits (`StampSearch`), and set it (`SpaceSigner::set_stamp`, \
             `Client::set_stamp`)"
        }
        (Fault::RefusedByPolicy, _) => "write under a key that is open to this writer",
        _ => "see the reason",
    }
}

/// Whether an update was refused because its stamp proves too little work.
pub(super) const fn needs_work(reason: &ValidationError) -> bool {
    matches!(reason, ValidationError::RefusedByPolicy(PolicyRefusal::TooLittleWork { .. }))
}
