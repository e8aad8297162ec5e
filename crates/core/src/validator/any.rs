//! A validator that accepts any bytes.
//!
//! **Invariants.** All values are equally good, so the first is selected.
//!
//! **Spec.**
//! [`MemoryStore`](https://docs.rs/libp2p-kad/0.49.0/libp2p_kad/store/struct.MemoryStore.html).

use super::{ValidationError, Validator, Validity};
use crate::{key::RecordKey, record::Limit, time::Timestamp};

/// Accepts any bytes up to a maximum size, and selects the first value.
///
/// As the fallback of a registry it makes a store behave like libp2p's `MemoryStore`: a put
/// replaces the stored value. Anyone can overwrite such records.
#[derive(Clone, Copy, Debug)]
pub struct AcceptAny {
    max_bytes: usize,
}

impl AcceptAny {
    /// Accepts values of up to `max_bytes` bytes.
    pub const fn up_to(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl Default for AcceptAny {
    /// Accepts up to 65 KiB less one byte, as libp2p's `MemoryStore` does.
    fn default() -> Self {
        Self::up_to(65 * 1_024 - 1)
    }
}

impl Validator for AcceptAny {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        Limit::VALUE_BYTES.check(value.len(), self.max_bytes)?;
        Ok(Validity::unchecked())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        super::best_index(values.iter().map(|_| ()))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}
