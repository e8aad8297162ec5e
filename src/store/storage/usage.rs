//! The amount of stored data, and the cost of a row.

#[cfg(feature = "metrics")]
use prometheus_client::registry::Unit;

#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};

/// The amount of stored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// How many records there are.
    pub records: usize,
    /// The bytes of all rows, plus [`Usage::ROW`] for each.
    pub bytes: usize,
}

impl Usage {
    /// The cost of a row besides its bytes. Its entries in trees and indices take no more than
    /// this, on average over the rows of a store: some 80 to 270 bytes in memory, by
    /// `tests/resident.rs`. Files have sums of it, so another cost would be another file format.
    pub const ROW: usize = 448;

    /// Adds a row of `bytes`.
    pub(in crate::store) fn add(&mut self, is_head: bool, bytes: usize) {
        self.records = self.records.saturating_add(usize::from(is_head));
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(Self::ROW);
    }

    /// Subtracts a row of `bytes`.
    pub(in crate::store) fn subtract(&mut self, is_head: bool, bytes: usize) {
        self.records = self.records.saturating_sub(usize::from(is_head));
        self.bytes = self.bytes.saturating_sub(bytes).saturating_sub(Self::ROW);
    }
}

#[cfg(feature = "metrics")]
impl Source for Usage {
    fn samples(&self) -> Vec<Sample> {
        let Self { records, bytes } = *self;
        let amount = |n| u64::try_from(n).unwrap_or(u64::MAX);
        vec![
            Sample::gauge("store_records", "Records stored", amount(records)),
            Sample::gauge("store_size", "How much is stored", amount(bytes)).with_unit(Unit::Bytes),
        ]
    }
}
