//! Durability of a storage on disk, and its use of memory.
//!
//! **Invariants.** The memory for pending writes is bounded, whatever the disk does.

use std::time::Duration;

use smart_record_core::settings;

/// When an acknowledged write is on disk.
///
/// | | a write is acknowledged | a crash loses | what the caller, Kademlia's task, waits for |
/// |---|---|---|---|
/// | [`Immediate`](Self::Immediate) | once it is on disk | nothing acknowledged | one transaction of the database with two `fsync`s for each write |
/// | [`Group`](Self::Group) | at once | at most the last `window`, and what the disk took to write since | nothing; only if `max_bytes` are waiting, up to [`MAX_HOLD`](Self::MAX_HOLD) |
///
/// Reads wait for the file where it has to be read. In either mode nothing waits for the file to be
/// opened again after a failure, except the first write in mode `Immediate` after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Each write is on disk before it is acknowledged. A failed write may have reached the file in
    /// part; that part is visible after the file has been opened again.
    Immediate,
    /// Writes are collected in memory, where they are visible, and a thread writes them in groups.
    ///
    /// If the thread fails to write, acknowledged writes stay in memory and are tried again. Until
    /// that succeeds, further writes are refused with the reason.
    Group {
        /// How long a group waits for further writes after its first one.
        window: Duration,
        /// How many bytes may be pending. A group of more than a quarter of it is written before
        /// its window has passed. When more than all of it is pending, a write waits for room up to
        /// [`MAX_HOLD`](Self::MAX_HOLD), and is then refused as
        /// [`QueueFull`](crate::store::StorageError::QueueFull).
        max_bytes: usize,
    },
}

impl Durability {
    /// How long a write waits for room in mode [`Group`](Self::Group). It waits only once, however
    /// many spaces it changes, because nothing is passed to the disk before it ends.
    pub const MAX_HOLD: Duration = Duration::from_millis(250);
}

impl Default for Durability {
    /// Group commit with a window of 100 ms and room for 16 MiB.
    ///
    /// 100 ms is much less than Kademlia takes to place a record at its replicas, from which a lost
    /// update is restored. 16 MiB are about 20,000 updates, more than one core can verify in 100
    /// ms.
    fn default() -> Self {
        Self::Group { window: Duration::from_millis(100), max_bytes: 16 * 1_024 * 1_024 }
    }
}

/// Configuration of a storage on disk.
///
/// ```
/// use libp2p_smart_record::store::{Durability, RedbConfig};
///
/// let config = RedbConfig::default().with_durability(Durability::Immediate);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct RedbConfig {
    durability: Durability,
    cache_bytes: usize,
    max_rechecked: usize,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            cache_bytes: 64 * 1_024 * 1_024,
            max_rechecked: 128 * 1_024,
        }
    }
}

settings! { RedbConfig:
    /// When a write is on disk. Defaults to [`Durability::default`].
    durability, with_durability: Durability;
    /// How many bytes of the file are cached in memory. Defaults to 64 MiB, as much as a store with
    /// the default [`max_bytes`](crate::store::StoreConfig::max_bytes) holds, so such a store reads
    /// each row from disk once.
    cache_bytes, with_cache_bytes: usize;
    /// How many rows of earlier processes are remembered as checked. When there are more, all are
    /// forgotten and checked again when they are read. Defaults to 131,072, which takes about 2
    /// MiB.
    max_rechecked, with_max_rechecked: usize;
}
