//! How durable a storage on disk is, and how much memory it takes for that.
//!
//! **Invariants.** What waits in memory to be written is bounded, whatever the disk does.

use std::time::Duration;

use smart_record_core::settings;

/// When what a store has acknowledged is on disk.
///
/// | | a write is acknowledged | a crash loses | what the caller, Kademlia's task, waits for |
/// |---|---|---|---|
/// | [`Immediate`](Self::Immediate) | once it is on disk | nothing acknowledged | one transaction of the database with two `fsync`s for each write |
/// | [`Group`](Self::Group) | at once | at most the last `window`, and what the disk took to write since | nothing; only if `max_bytes` are waiting, up to [`MAX_HOLD`](Self::MAX_HOLD) |
///
/// Reading waits for what has to be read from the file. In either mode nothing ever waits for the file to be
/// opened again after a failure, except a write in mode `Immediate` that is the first after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Each write is on disk before it is acknowledged. If it cannot be written, it fails;
    /// what of it has reached the file all the same is there once the file has been opened again.
    Immediate,
    /// Writes gather in memory, where they can be read, and a thread writes them.
    ///
    /// If writing fails, what was acknowledged stays in memory and is tried again; until that succeeds
    /// every further write is refused with the reason.
    Group {
        /// How long the first of a group waits for others before the group is written.
        window: Duration,
        /// How many bytes may wait. When a quarter of it does, a group does not wait for its window; when more
        /// than all of it does, a write waits for room up to [`MAX_HOLD`](Self::MAX_HOLD), and is then refused
        /// as [`Busy`](crate::store::StorageError::Busy).
        max_bytes: usize,
    },
}

impl Durability {
    /// How long a write waits for room in mode [`Group`](Self::Group): once, however many spaces it changes,
    /// because nothing is handed to the disk before it ends.
    pub const MAX_HOLD: Duration = Duration::from_millis(250);
}

impl Default for Durability {
    /// Group commit with a window of 100 ms and room for 16 MiB.
    ///
    /// A tenth of a second is much less than it takes Kademlia to place a record at its replicas, and they are
    /// what a lost update comes back from; 16 MiB are some 20,000 updates, more than a core can verify meanwhile.
    fn default() -> Self {
        Self::Group { window: Duration::from_millis(100), max_bytes: 16 * 1_024 * 1_024 }
    }
}

/// How a storage on disk works.
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
    /// When writes are on disk. Defaults to [`Durability::default`].
    durability, with_durability: Durability;
    /// How many bytes of the file are kept in memory. Defaults to 64 MiB, as much as a store with the default
    /// [`max_bytes`](crate::store::StoreConfig::max_bytes) holds, so that such a store reads the disk once.
    cache_bytes, with_cache_bytes: usize;
    /// Of how many rows that an earlier process wrote it is remembered that they were checked again; when
    /// there are more, all are forgotten and checked once more when they are read. Defaults to 131,072, which
    /// takes about 2 MiB.
    max_rechecked, with_max_rechecked: usize;
}
