//! Validators: what a record of a namespace may be, which of two is better, and how several become one.
//!
//! All of them work on bytes, wherever these come from: a DHT, pubsub, a file. A namespace is either *spaces*, the smart
//! records of many writers ([`SpaceRules`]), or a *value* ([`Validator`]). A [`Registry`] maps keys to one or the other.
//!
//! **Invariants.** A validator is a pure function of its arguments: no clock, no I/O. `select` derives from a
//! total order, so it does not depend on the order of its input except that a tie goes to the lowest index.
//!
//! **Spec.** The three verbs of presence records (validate, select, consolidate); the first two are also those of
//! [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/validator.go).

mod any;
mod error;
mod registry;
mod smart_record;

use std::time::Duration;

pub use self::{
    any::AcceptAny,
    error::{Fault, Malformed, ValidationError},
    registry::{Namespace, Namespaces, Registered, Registry, Validated},
    smart_record::{MergedSpace, Refusals, Refused, SpaceRules},
};
use crate::{key::RecordKey, time::Timestamp};

/// Validates, selects and consolidates the values of one kind of record.
///
/// ```
/// use smart_record_core::{Malformed, RecordKey, Timestamp, ValidationError, Validator, Validity};
///
/// /// A value is text; the longest one is the best.
/// struct Longest;
///
/// impl Validator for Longest {
///     fn validate(&self, _: &RecordKey, value: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
///         std::str::from_utf8(value)
///             .map(|_| Validity::forever())
///             .map_err(|e| Malformed::other(e).into())
///     }
///
///     fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         smart_record_core::best_index(values.iter().map(|value| (value.len(), *value)))
///     }
/// }
///
/// let key = RecordKey::new("/longest/x");
/// let values: [&[u8]; 3] = [b"a", b"ccc", b"bbb"];
/// assert_eq!(Longest.select(&key, &values)?, 1);
/// assert_eq!(Longest.consolidate(&key, &values)?, b"ccc");
/// # Ok::<(), ValidationError>(())
/// ```
pub trait Validator: Send + Sync {
    /// Whether any value may stand under `key`. Every key passes by default. A validator whose keys have a form checks
    /// it here, so that a read under a wrong key is an error and not a read that finds nothing.
    ///
    /// # Errors
    /// [`ValidationError`], with a text that names the form.
    fn check_key(&self, _key: &RecordKey) -> Result<(), ValidationError> {
        Ok(())
    }

    /// Whether `value` may stand under `key` at `now`.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError>;

    /// Whether a value that was valid when it was stored would still be let in by the rules of today: its form, its
    /// signatures, and who may write. A store asks this of what an earlier process has written. By default it is
    /// what [`validate`](Self::validate) says; a validator that asks something besides the clock which may not be
    /// known yet after a restart, or know less, has to define it.
    ///
    /// # Errors
    /// [`ValidationError`]. That it has expired, or comes from the future, is no reason to remove it: the store
    /// knows how long it lives.
    fn revalidate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        self.validate(key, value, now).map(drop)
    }

    /// The index of the best of these values; of equally good ones, the first.
    ///
    /// # Errors
    /// [`ValidationError`] if there is no value, or none that can be compared.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError>;

    /// One value that holds what these values hold together. By default the selected one.
    ///
    /// Where values combine, this is the join of a semilattice: order, grouping and repetition of the values
    /// do not matter.
    ///
    /// # Errors
    /// As [`Validator::select`].
    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        let best = self.select(key, values)?;
        values.get(best).map(|value| value.to_vec()).ok_or(ValidationError::NoValue)
    }

    /// Whether `whole` says all that `part` says, so that one who has `whole` knows `part` already; of two
    /// values that are valid. By default only if they are equal.
    ///
    /// A store asks this about a value that changes nothing in what it has stored: one that it contains is known,
    /// any other is stale. So a validator whose values combine has to define it.
    fn contains(&self, _key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        whole == part
    }

    /// A valid value without what may go from it at `now`; `None` if that is nothing, or all of it. Reading the rest
    /// at `now` or later gives the same as reading the whole. By default nothing goes before the whole does.
    ///
    /// A store keeps what is left. So a validator whose values combine, and expire part by part, has to define it,
    /// or what has expired stays for as long as anything lives.
    fn collect(&self, _key: &RecordKey, _value: &[u8], _now: Timestamp) -> Option<Vec<u8>> {
        None
    }
}

/// What a store must know about a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Validity {
    /// When the value expires by its own word. `None`: the value has none, and the lifetime that came with
    /// it through the DHT counts.
    pub expires_at: Option<Timestamp>,
    /// Whether the validator bounds [`expires_at`](Self::expires_at), so that a store can keep the value until then.
    /// If not, `StoreConfig::max_age` does.
    pub is_bounded: bool,
    /// Whether the publisher that came with the value, whom nobody has authenticated, is kept with it, as
    /// libp2p's `MemoryStore` does. Then Kademlia re-publishes and removes the value for its publisher, but
    /// the publisher never hears of what others put in its place.
    pub keeps_publisher: bool,
    /// How long the value lives from when it is first received, by the receiver's clock. A store remembers
    /// since when it has known the value, and what is left travels on; see
    /// `StoreConfig::receipt_memory`. `None`: receipt starts nothing.
    pub ttl_since_receipt: Option<Duration>,
    /// What the value says apart from how it is signed, as a hash: values of the same identity are one value to
    /// [`ttl_since_receipt`](Self::ttl_since_receipt). `None`: the bytes count.
    pub identity: Option<[u8; 32]>,
}

impl Validity {
    const NOTHING: Self = Self {
        expires_at: None,
        is_bounded: false,
        keeps_publisher: false,
        ttl_since_receipt: None,
        identity: None,
    };

    /// When the value expires, by its own word or because it was received `now`.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let since_receipt = self.ttl_since_receipt.map(|ttl| now.saturating_add(ttl));
        self.expires_at.into_iter().chain(since_receipt).min()
    }

    /// The value expires at this instant, which its author may have put as far off as it likes.
    pub const fn until(expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..Self::NOTHING }
    }

    /// The value expires at this instant, and had it been further off than the validator's limits allow, it would not
    /// be valid.
    pub const fn until_within_limits(expires_at: Timestamp) -> Self {
        Self { is_bounded: true, ..Self::until(expires_at) }
    }

    /// The value does not say when it expires.
    pub const fn forever() -> Self {
        Self::NOTHING
    }

    /// The value expires this long after it is first received.
    pub const fn since_receipt(ttl: Duration) -> Self {
        Self { ttl_since_receipt: Some(ttl), ..Self::NOTHING }
    }

    /// The value vouches for nothing: what came with it counts, lifetime and publisher.
    pub const fn unchecked() -> Self {
        Self { keeps_publisher: true, ..Self::NOTHING }
    }
}

/// The index of the value of the greatest rank, of equal ones the lowest. Values that have no rank, because they
/// are not good, are passed over.
///
/// # Errors
/// The reason for the first value if none has a rank; [`ValidationError::NoValue`] if there is no value.
pub fn best_of<'a, T: Ord>(
    values: &[&'a [u8]],
    rank: impl Fn(&'a [u8]) -> Result<T, ValidationError>,
) -> Result<usize, ValidationError> {
    let mut first_error = None;
    let ranked: Vec<_> = values
        .iter()
        .map(|value| rank(value).map_err(|error| first_error.get_or_insert(error).clone()).ok())
        .collect();
    match first_error {
        Some(error) if ranked.iter().all(Option::is_none) => Err(error),
        _ => best_index(ranked),
    }
}

/// The index of the greatest item, of equal ones the lowest: [`Validator::select`] for a total order.
///
/// # Errors
/// [`ValidationError::NoValue`] if there is no item.
pub fn best_index<T: Ord>(items: impl IntoIterator<Item = T>) -> Result<usize, ValidationError> {
    items
        .into_iter()
        .enumerate()
        .reduce(|best, item| if item.1 > best.1 { item } else { best })
        .map(|(index, _)| index)
        .ok_or(ValidationError::NoValue)
}
