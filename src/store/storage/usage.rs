//! How much is stored, and what a row counts.

#[cfg(feature = "metrics")]
use prometheus_client::registry::Unit;

#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};

/// How much is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// Records, which is to say heads.
    pub records: usize,
    /// The bytes of all rows, [`Usage::ROW`] added for each.
    pub bytes: usize,
}

impl Usage {
    /// What a row counts besides its bytes: its places in trees and indices, which take no more than this, on average
    /// over the rows of a store.
    pub const ROW: usize = 448;

    /// Counts a row of so many bytes.
    pub(in crate::store) fn add(&mut self, is_head: bool, bytes: usize) {
        self.records = self.records.saturating_add(usize::from(is_head));
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(Self::ROW);
    }

    /// Counts a row of so many bytes no more.
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
