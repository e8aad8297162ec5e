//! Boards of a thousand writers and more: published, replicated, read whole by distant readers, and
//! split over several keys. `cargo test --all-features --test swarms boards:: -- --nocapture`
//! prints the measurements.

mod lookups;
mod network;
mod shards;

use std::time::Duration;

use libp2p::{PeerId, identity::Keypair, kad};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceRules, SpaceSigner, SystemClock,
    Timestamp,
    store::{Asker, SmartRecordStore, StoreConfig},
};

use crate::nodes::{Node, Stored, start_as};

const HOUR: Duration = Duration::from_secs(3_600);

/// Default size of the slices in GET replies.
const SLICE_BYTES: usize = 8 * 1_024;

/// Fails the test if `work` hangs. These tests are the longest of the crate.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), work).await.expect("the test hangs")
}

/// Groups of keypairs.
const WRITERS: u8 = 1;
const NODES: u8 = 2;

fn keypair(group: u8, number: u64) -> Keypair {
    let mut secret = [group; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

/// A space of one update with `text` bytes of text.
fn space(key: &RecordKey, writer: u64, text: usize, now: Timestamp) -> SmartRecord {
    let keypair = keypair(WRITERS, writer);
    let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
    let document: Dict = [("text", "x".repeat(text))].into_iter().collect();
    signer.merge(document, now, HOUR).unwrap();
    signer.record(now)
}

/// A board of a thousand writers, about 300 KB.
fn thousand(key: &RecordKey, now: Timestamp) -> SmartRecord {
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..1_000 {
        board.join(space(key, writer, 145, now)).unwrap();
    }
    let bytes = board.encode().len();
    assert!((290_000..310_000).contains(&bytes), "{bytes} bytes");
    board
}

/// Number of full slices of a record.
fn slices(board: &SmartRecord) -> usize {
    board.encode().len().div_ceil(SLICE_BYTES)
}

/// Number of lookups that suffices but in one case of a million if each slice begins anywhere: then
/// each lookup misses a space with the probability `(1 - 1 / slices) ^ replicas`.
pub fn bound(slices: usize, replicas: usize, spaces: usize) -> usize {
    let per_replica = slices as f64 / replicas as f64;
    (per_replica * (1e6 * spaces as f64).ln()).ceil() as usize
}

/// Sorts peers by distance from a key.
pub fn by_distance<T>(peers: &mut [T], key: &RecordKey, peer: impl Fn(&T) -> PeerId) {
    let target = kad::KBucketKey::new(kad::RecordKey::new(key));
    peers.sort_by_cached_key(|item| kad::KBucketKey::from(peer(item)).distance(&target));
}
