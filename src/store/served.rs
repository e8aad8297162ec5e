//! The work that a store does for other peers.
//!
//! **Invariants.** Work is estimated from the operations that were done, in the time of a
//! [reference core](smart_record_core::SignatureMemory), and never measured by a clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Decoding, comparing and storing a byte that another peer writes. A guess, on the high side.
const WRITTEN_BYTE: Duration = Duration::from_nanos(10);
/// Finding a record and the closer peers for a reader, and for each byte that it is sent. A guess,
/// on the high side.
const READ: Duration = Duration::from_micros(40);
const READ_BYTE: Duration = Duration::from_nanos(5);

/// Work since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Served(AtomicU64);

impl Served {
    /// Counts a write of another peer, whose signatures took `signatures`.
    pub(super) fn write(&self, bytes: usize, signatures: Duration) {
        self.add(signatures.saturating_add(times(WRITTEN_BYTE, bytes)));
    }

    /// Counts the signatures of stored rows that took `signatures` for a write of another peer that
    /// was validated before.
    pub(super) fn insert(&self, signatures: Duration) {
        self.add(signatures);
    }

    /// Counts a read of another peer, for which signatures of stored rows took `signatures`.
    pub(super) fn read(&self, bytes: usize, signatures: Duration) {
        self.add(READ.saturating_add(times(READ_BYTE, bytes)).saturating_add(signatures));
    }

    pub(super) fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }

    fn add(&self, work: Duration) {
        let nanos = u64::try_from(work.as_nanos()).unwrap_or(u64::MAX);
        // Nobody takes it from a store without a behaviour.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            Some(before.saturating_add(nanos))
        });
    }
}

fn times(work: Duration, count: usize) -> Duration {
    work.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}
