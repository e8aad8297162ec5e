//! Validators: which values of a namespace are valid, which of several is best, and how to combine
//! them.
//!
//! They work on bytes from any source: a DHT, pubsub, a file. The keys of a namespace hold either
//! *spaces*, the smart records of many writers ([`SpaceRules`]), or a *value* ([`Validator`]). A
//! [`Registry`] maps keys to one or the other.
//!
//! **Invariants.** A validator is a pure function of its arguments: no clock, no I/O. `select`
//! derives from a total order, so it does not depend on the order of its input except that a tie
//! goes to the lowest index.
//!
//! **Spec.** The three operations of presence records: validate, select, consolidate. The first two
//! are also those of
//! [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/validator.go).

mod any;
mod error;
mod order_key;
mod registry;
mod smart_record;
mod together;

use std::time::Duration;

pub use self::{
    any::AcceptAny,
    error::{Fault, Malformed, ValidationError},
    order_key::OrderKey,
    registry::{Namespace, NamespaceItem, Namespaces, Registry, Validated},
    smart_record::{MergedSpace, Refusals, Refused, SpaceRules},
};
use crate::{key::RecordKey, time::Timestamp};

/// Validates, selects and consolidates the values of one kind of record.
///
/// `validate`, `select` and `wrapped` are required. The others are hooks: by default they are those
/// of the [`wrapped`](Self::wrapped) validator, or suit values that do not combine.
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
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         None
///     }
/// }
///
/// let key = RecordKey::new("/longest/x");
/// let values: [&[u8]; 3] = [b"a", b"ccc", b"bbb"];
/// assert_eq!(Longest.select(&key, &values)?, 1);
/// assert_eq!(Longest.consolidate(&key, &values)?, b"ccc");
/// # Ok::<(), ValidationError>(())
/// ```
///
/// # Wrapping
///
/// A validator that adds something to another one, such as a log or a further check, returns that
/// one from `wrapped`. It then has the other's hooks:
///
/// ```
/// use smart_record_core::{RecordKey, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged<V>(V);
///
/// impl<V: Validator> Validator for Logged<V> {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now)
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         Some(&self.0)
///     }
/// }
/// ```
///
/// Without it, values that combine would be replaced by the last one written. So one that forwards
/// `validate` and `select` alone does not compile:
///
/// ```compile_fail,E0046
/// use smart_record_core::{RecordKey, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged<V>(V);
///
/// impl<V: Validator> Validator for Logged<V> {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now)
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
/// }
/// ```
pub trait Validator: Send + Sync {
    /// Checks that `key` can have a value. By default every key passes. A validator whose keys have
    /// a required form checks it here, so that reading an invalid key is an error rather than an
    /// empty result.
    ///
    /// # Errors
    /// [`ValidationError`], with a text that states the required form.
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        self.wrapped().map_or(Ok(()), |wrapped| wrapped.check_key(key))
    }

    /// Checks that `value` is valid for `key` at `now`.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError>;

    /// Checks that a stored value still passes the current rules: its form, its signatures and its
    /// writer. A store calls this for values that an earlier process stored. By default it calls
    /// [`validate`](Self::validate). A validator must define it if it depends on state other than
    /// the clock that may be missing or incomplete after a restart.
    ///
    /// # Errors
    /// [`ValidationError`]. The store does not remove a value because it is expired or from the
    /// future: the store tracks its lifetime itself.
    fn revalidate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        match self.wrapped() {
            Some(wrapped) => wrapped.revalidate(key, value, now),
            None => self.validate(key, value, now).map(drop),
        }
    }

    /// The index of the best value; of equally good values, the first. A wrapper that selects in
    /// another way than the validator that it wraps defines [`consolidate`](Self::consolidate) too.
    ///
    /// # Errors
    /// [`ValidationError`] if there is no value, or none is valid.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError>;

    /// The validator that this one wraps, never itself; `None` if it wraps none. The hooks that
    /// this one does not define are those of the wrapped one. So a wrapper with rules of its own
    /// for stored values, or for the better of two, defines [`revalidate`](Self::revalidate) or
    /// [`consolidate`](Self::consolidate) too.
    fn wrapped(&self) -> Option<&dyn Validator>;

    /// One value with the content of all given values. By default the
    /// [selected](Self::select) value; for a validator that wraps another one, what that one
    /// consolidates, whatever this one selects.
    ///
    /// For values that combine, this is the join of a semilattice: order, grouping and repetition
    /// do not matter.
    ///
    /// # Errors
    /// As [`Validator::select`].
    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        if let Some(wrapped) = self.wrapped() {
            return wrapped.consolidate(key, values);
        }
        let best = self.select(key, values)?;
        values.get(best).map(|value| value.to_vec()).ok_or(ValidationError::NoValue)
    }

    /// Whether `whole` has all content of `part`. Both are valid values. By default true only if
    /// they are equal.
    ///
    /// A store calls this for an incoming value that does not change the stored one: a contained
    /// value counts as known, any other as stale. A validator whose values combine must define it.
    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        match self.wrapped() {
            Some(wrapped) => wrapped.contains(key, whole, part),
            None => whole == part,
        }
    }

    /// The place of a valid value among those of its key: [`select`](Self::select) prefers a value
    /// to every one of a lesser order key. By default there is none.
    ///
    /// A store that evicts the value remembers this, and refuses values of a lesser order key until
    /// the value would have expired. Without it, nothing is remembered: once a full store has
    /// evicted a value, anybody can put an older one in its place. It is called for each evicted
    /// value, so it should be cheap; the signature need not be verified again.
    fn order_key(&self, key: &RecordKey, value: &[u8]) -> Option<OrderKey> {
        self.wrapped()?.order_key(key, value)
    }

    /// The work of verifying the signatures of a value, if there may be many and they are verified
    /// one after the other until [`check_signature_work`](crate::check_signature_work) refuses the
    /// rest unread; otherwise zero, the default. Senders send a value of more work than a replica
    /// does at once as many times as it takes: what was verified costs a hash the next time. No
    /// signature need be verified for it.
    fn signature_work(&self, key: &RecordKey, value: &[u8]) -> Duration {
        self.wrapped().map_or(Duration::ZERO, |wrapped| wrapped.signature_work(key, value))
    }

    /// A valid value without its expired parts at `now`; `None` if no part or every part has
    /// expired. Reading the result at `now` or later gives the same as reading the original. By
    /// default a value expires only as a whole.
    ///
    /// A store keeps the result. A validator whose values combine and expire part by part must
    /// define it: otherwise expired parts stay as long as any part lives.
    fn collect(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        self.wrapped()?.collect(key, value, now)
    }
}

/// What a store needs to know about a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Validity {
    /// The expiry stated in the value. `None`: the value states none, and the lifetime that the DHT
    /// sent with it counts.
    pub expires_at: Option<Timestamp>,
    /// Whether the validator bounds [`expires_at`](Self::expires_at), so that a store keeps the
    /// value until then. If false, `StoreConfig::max_age` bounds the lifetime.
    pub is_bounded: bool,
    /// Whether the store keeps the unauthenticated publisher that came with the value, as libp2p's
    /// `MemoryStore` does. If true, Kademlia republishes and removes the value for its publisher,
    /// but the publisher is not told when others overwrite the value.
    pub keeps_publisher: bool,
    /// The lifetime from first receipt, by the receiver's clock. A store remembers when it first
    /// received the value and sends the remaining lifetime on; see `StoreConfig::receipt_memory`.
    /// `None`: receipt does not limit the lifetime.
    pub ttl_since_receipt: Option<Duration>,
    /// A hash of the content without its signature. [`ttl_since_receipt`](Self::ttl_since_receipt)
    /// treats values of the same identity as one value. `None`: the bytes are the identity.
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

    /// When the value expires if it is first received at `now`: by its stated expiry or its
    /// lifetime since receipt.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let since_receipt = self.ttl_since_receipt.map(|ttl| now.saturating_add(ttl));
        self.expires_at.into_iter().chain(since_receipt).min()
    }

    /// A value that expires at this instant. The validator does not bound it.
    pub const fn until(expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..Self::NOTHING }
    }

    /// A value that expires at this instant, which the validator has checked against its limits.
    pub const fn bounded_until(expires_at: Timestamp) -> Self {
        Self { is_bounded: true, ..Self::until(expires_at) }
    }

    /// A value that does not state an expiry.
    pub const fn forever() -> Self {
        Self::NOTHING
    }

    /// A value that expires this long after it is first received.
    pub const fn since_receipt(ttl: Duration) -> Self {
        Self { ttl_since_receipt: Some(ttl), ..Self::NOTHING }
    }

    /// An unchecked value: the lifetime and the publisher that came with it count.
    pub const fn unchecked() -> Self {
        Self { keeps_publisher: true, ..Self::NOTHING }
    }
}

/// The index of the value with the greatest rank; of equal ranks, the lowest index. Invalid values
/// have no rank and are skipped.
///
/// # Errors
/// The error of the first value if none has a rank; [`ValidationError::NoValue`] if there is no
/// value.
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

/// The index of the greatest item; of equal items, the lowest index. Implements
/// [`Validator::select`] for a total order.
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
