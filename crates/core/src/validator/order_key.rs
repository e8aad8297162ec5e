//! Order keys: the place of a value in the order by which its validator selects.
//!
//! **Invariants.** An order key has at most [`OrderKey::MAX_BYTES`].
//!
//! **Spec.** `docs/design.md`, section "Memory of evictions".

use crate::record::{Limit, LimitExceeded};

/// The place of a value among the values of its key: the greater one is better. Compared as bytes.
///
/// A store remembers it when it evicts the value, so that no worse value takes its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(Box<[u8]>);

impl OrderKey {
    /// The maximum length in bytes: enough for a sequence and a hash.
    pub const MAX_BYTES: usize = 48;
    const BYTES: Limit = Limit::new("the order key", "bytes");

    /// The order key with these bytes.
    ///
    /// # Errors
    /// [`LimitExceeded`] if there are more than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new(bytes: &[u8]) -> Result<Self, LimitExceeded> {
        Self::BYTES.check(bytes.len(), Self::MAX_BYTES)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
