//! Values that have already been checked.
//!
//! Verifying signatures is expensive and storing is cheap. A value can be verified on any thread
//! and then handed to the store, which does not verify it again.
//!
//! **Invariants.** A [`ValidatedRecord`] is made only by checking. What it holds was valid at the
//! time of the check.

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{cursors::Asker, source::Source};
use smart_record_core::{
    Namespace, RecordKey, Refusals, Registry, SignedUpdate, SmartRecord, Timestamp,
    ValidationError, Validity,
};

/// A checked value: its valid part, and the reasons why the rest was refused.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_smart_record::{
///     Clock, RecordKey, Registry, SystemClock, store::{ValidatedRecord, Origin, SmartRecordStore},
/// };
///
/// let local = Keypair::generate_ed25519().public().to_peer_id();
/// let mut store = SmartRecordStore::new(local);
/// // On any thread:
/// let key = RecordKey::new("/sr/lobby");
/// let checked = ValidatedRecord::new(&Registry::default(), key, b"garbage", SystemClock.now());
/// // Where the store is:
/// assert!(store.insert(checked, Origin::Remote).is_err());
/// ```
#[derive(Clone, Debug)]
#[must_use = "give it to `SmartRecordStore::insert`"]
pub struct ValidatedRecord {
    pub(super) key: RecordKey,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
    /// `None`: that of the peer which the store knows to be asking.
    pub(super) source: Option<Source>,
    pub(super) body: ValidatedBody,
}

/// What an update takes in memory beside its bytes, roughly.
const UPDATE: usize = 160;
/// The pieces of a record that are left.
pub(crate) type Pieces = Box<dyn ExactSizeIterator<Item = ValidatedRecord> + Send>;

#[derive(Clone, Debug)]
pub(super) enum ValidatedBody {
    Record(SmartRecord, Refusals),
    Value(Bytes, Validity),
    Refused(ValidationError),
}

impl ValidatedRecord {
    /// Checks a value as a store with this registry does. Give it to that store soon: the store
    /// drops what has expired in the meantime.
    pub fn new(registry: &Registry, key: RecordKey, value: &[u8], now: Timestamp) -> Self {
        let checked = registry.resolve(&key).and_then(|namespace| match namespace {
            Namespace::Spaces(rules) => rules
                .read_partial(&key, value, Some(now))
                .map(|(record, refusals)| ValidatedBody::Record(record, refusals)),
            Namespace::Value(validator) => validator
                .validate(&key, value, now)
                .map(|validity| ValidatedBody::Value(Bytes::copy_from_slice(value), validity)),
        });
        let body = checked.unwrap_or_else(ValidatedBody::Refused);
        Self { key, publisher: None, expires_at: None, source: None, body }
    }

    /// A record that has been verified and admitted as a whole.
    pub(crate) fn verified(record: SmartRecord) -> Self {
        let key = record.key().clone();
        let body = ValidatedBody::Record(record, Refusals::default());
        Self { key, publisher: None, expires_at: None, source: None, body }
    }

    /// Splits a record into pieces of at most `spaces` spaces, each when it is asked for. Stored
    /// one after the other, they give the same.
    pub(crate) fn split(self, spaces: usize) -> Pieces {
        let Self { key, publisher, expires_at, source, body } = self;
        let (record, refusals) = match body {
            ValidatedBody::Record(record, refusals) if record.spaces().len() > spaces => {
                (record, refusals)
            }
            body => {
                let whole = Self { key, publisher, expires_at, source, body };
                return Box::new(std::iter::once(whole));
            }
        };
        let (mut refusals, mut rest) = (Some(refusals), record.into_spaces());
        let pieces = rest.len().div_ceil(spaces.max(1));
        Box::new((0..pieces).map(move |_| {
            let mut piece = SmartRecord::new(key.clone());
            for (writer, space) in rest.by_ref().take(spaces.max(1)) {
                piece.join_space(writer, space);
            }
            let body = ValidatedBody::Record(piece, refusals.take().unwrap_or_default());
            Self { key: key.clone(), publisher, expires_at, source, body }
        }))
    }

    /// How many bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let of = |update: &SignedUpdate| {
            let bytes = update.as_bytes().len().saturating_add(update.signature().len());
            bytes.saturating_add(UPDATE)
        };
        match &self.body {
            ValidatedBody::Record(record, _) => {
                let updates = record.spaces().flat_map(|(_, space)| space.updates());
                updates.map(of).fold(0, usize::saturating_add)
            }
            ValidatedBody::Value(value, _) => value.len(),
            ValidatedBody::Refused(_) => 0,
        }
    }

    /// A value that was refused for a reason outside the registry's rules.
    pub fn refused(key: RecordKey, reason: ValidationError) -> Self {
        Self {
            key,
            publisher: None,
            expires_at: None,
            source: None,
            body: ValidatedBody::Refused(reason),
        }
    }

    /// Sets the publisher and the expiry that were sent with the value. Neither is signed.
    pub fn with_origin(mut self, publisher: Option<PeerId>, expires_at: Option<Timestamp>) -> Self {
        self.publisher = publisher;
        self.expires_at = expires_at;
        self
    }

    /// Sets the peer that has brought it; `None` if this node has read it.
    pub(crate) fn brought_by(mut self, asker: Option<Asker>) -> Self {
        self.source = Some(asker.map_or(Source::OWN, |asker| asker.source));
        self
    }

    /// The key of the record.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    pub(crate) const fn record(&self) -> Option<&SmartRecord> {
        match &self.body {
            ValidatedBody::Record(record, _) => Some(record),
            _ => None,
        }
    }

    /// The value, if it is valid and not a smart record.
    pub const fn value(&self) -> Option<&Bytes> {
        match &self.body {
            ValidatedBody::Value(value, _) => Some(value),
            _ => None,
        }
    }

    /// Whether any part of it is valid.
    pub fn has_good(&self) -> bool {
        match &self.body {
            ValidatedBody::Record(record, _) => record.spaces().len() > 0,
            ValidatedBody::Value(..) => true,
            ValidatedBody::Refused(_) => false,
        }
    }
}
