//! Values that have been looked into already.
//!
//! Verifying is what costs; storing is cheap. So a value can be verified on any thread, and then be handed to the
//! store, which does not do it again.
//!
//! **Invariants.** A [`Checked`] is made by checking and in no other way; what is good in it was good at that time.

use bytes::Bytes;
use libp2p_identity::PeerId;

use smart_record_core::{
    Namespace, RecordKey, Refusals, Registry, SmartRecord, Timestamp, ValidationError, Validity,
};

/// A value after it has been checked: what is good of it, and what is wrong with the rest.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_smart_record::{
///     Clock, RecordKey, Registry, SystemClock, store::{Checked, Origin, SmartRecordStore},
/// };
///
/// let local = Keypair::generate_ed25519().public().to_peer_id();
/// let mut store = SmartRecordStore::new(local);
/// // On any thread:
/// let key = RecordKey::new("/sr/lobby");
/// let checked = Checked::new(&Registry::default(), key, b"garbage", SystemClock.now());
/// // Where the store is:
/// assert!(store.insert(checked, Origin::Remote).is_err());
/// ```
#[derive(Debug)]
#[must_use = "give it to `SmartRecordStore::insert`"]
pub struct Checked {
    pub(super) key: RecordKey,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) body: CheckedBody,
}

#[derive(Debug)]
pub(super) enum CheckedBody {
    Record(SmartRecord, Refusals),
    Value(Bytes, Validity),
    Refused(ValidationError),
}

impl Checked {
    /// Checks a value as a store with this registry does. Give it to that store soon: what expires meanwhile
    /// is dropped there.
    pub fn new(registry: &Registry, key: RecordKey, value: &[u8], now: Timestamp) -> Self {
        let checked = registry.resolve(&key).and_then(|namespace| match namespace {
            Namespace::Spaces(rules) => rules
                .sift(&key, value, Some(now))
                .map(|(record, refusals)| CheckedBody::Record(record, refusals)),
            Namespace::Value(validator) => validator
                .validate(&key, value, now)
                .map(|validity| CheckedBody::Value(Bytes::copy_from_slice(value), validity)),
        });
        let body = checked.unwrap_or_else(CheckedBody::Refused);
        Self { key, publisher: None, expires_at: None, body }
    }

    /// A record all of which has been verified and admitted.
    pub(crate) fn verified(record: SmartRecord) -> Self {
        let key = record.key().clone();
        let body = CheckedBody::Record(record, Refusals::default());
        Self { key, publisher: None, expires_at: None, body }
    }

    /// Refuses a value whose check has come to nothing for a reason of the caller's.
    pub fn refused(key: RecordKey, reason: ValidationError) -> Self {
        Self { key, publisher: None, expires_at: None, body: CheckedBody::Refused(reason) }
    }

    /// The publisher and the expiry that came with the value, which nobody has signed.
    pub fn with_origin(mut self, publisher: Option<PeerId>, expires_at: Option<Timestamp>) -> Self {
        self.publisher = publisher;
        self.expires_at = expires_at;
        self
    }

    /// The key of the record.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    pub(crate) const fn record(&self) -> Option<&SmartRecord> {
        match &self.body {
            CheckedBody::Record(record, _) => Some(record),
            _ => None,
        }
    }

    /// What is good of it, if it is not a smart record.
    pub const fn value(&self) -> Option<&Bytes> {
        match &self.body {
            CheckedBody::Value(value, _) => Some(value),
            _ => None,
        }
    }

    /// Whether anything in it is good.
    pub fn has_good(&self) -> bool {
        match &self.body {
            CheckedBody::Record(record, _) => record.spaces().len() > 0,
            CheckedBody::Value(..) => true,
            CheckedBody::Refused(_) => false,
        }
    }
}
