//! The validator of IPRS records.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
};

use cid::Cid;

use crate::iprs::{
    Ancestry, Chain, DatetimeRange, IprsError, IprsRecord, Scheme, SequenceNumber, TtlSinceReceipt,
    UnverifiedIprsRecord, scheme_of,
};
use smart_record_core::{
    Admission, DEFAULT_KEY_BYTES, KeyOwner, Limit, Malformed, RecordKey, Timestamp,
    ValidationError, Validator, Validity, best_of,
};

/// Validator of IPRS records with an extensible set of schemes.
///
/// The key `/iprs/<peer id>/<name>` belongs to the peer whose id it contains. Other peers may not
/// write there, so nobody can put its own record before an author's. A different policy allows
/// several writers under a key.
///
/// By default it knows the schemes that need no input from the user: datetime range, TTL since
/// receipt, ancestry chain and sequence number. Cryptographic freshness needs a beacon, so the user
/// adds it.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_formats::iprs::{IprsValidator, SequenceNumber};
/// use smart_record_core::{RecordKey, Registry, Timestamp};
///
/// let registry = Registry::default().with("iprs", IprsValidator::default())?;
/// let keypair = Keypair::generate_ed25519();
/// let key = RecordKey::new(format!("/iprs/{}/motd", keypair.public().to_peer_id()));
/// let sign = |text, n| SequenceNumber::record(text, n).sign(&key, &keypair);
/// let (old, new) = (sign("good morning", 1)?, sign("good night", 2)?);
///
/// registry.validate(&key, old.as_bytes(), Timestamp::EPOCH)?;
/// assert_eq!(registry.select(&key, &[old.as_bytes(), new.as_bytes()])?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct IprsValidator {
    schemes: BTreeMap<Cid, Arc<dyn Scheme>>,
    admission: Arc<dyn Admission>,
    max_bytes: usize,
    max_key_bytes: usize,
}

impl Default for IprsValidator {
    fn default() -> Self {
        Self::empty()
            .with_scheme(DatetimeRange)
            .with_scheme(TtlSinceReceipt)
            .with_scheme(Ancestry)
            .with_scheme(SequenceNumber)
    }
}

impl IprsValidator {
    /// Creates a validator without schemes.
    pub fn empty() -> Self {
        Self {
            schemes: BTreeMap::new(),
            admission: Arc::new(KeyOwner),
            max_bytes: IprsRecord::MAX_BYTES,
            max_key_bytes: DEFAULT_KEY_BYTES,
        }
    }

    /// Adds a scheme. It replaces one with the same CID.
    #[must_use]
    pub fn with_scheme(mut self, scheme: impl Scheme) -> Self {
        self.schemes.insert(scheme.description().cid(), Arc::new(scheme));
        self
    }

    /// Sets the policy that decides who may write under a key. Defaults to [`KeyOwner`].
    #[must_use]
    pub fn with_admission(mut self, admission: impl Admission) -> Self {
        self.admission = Arc::new(admission);
        self
    }

    /// Sets the maximum size of a value, in bytes. Defaults to [`IprsRecord::MAX_BYTES`].
    #[must_use]
    pub const fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the maximum length of a key, in bytes. Defaults to 256, as for smart records.
    #[must_use]
    pub const fn with_max_key_bytes(mut self, max_key_bytes: usize) -> Self {
        self.max_key_bytes = max_key_bytes;
        self
    }

    /// The CIDs of the known schemes.
    pub fn schemes(&self) -> impl Iterator<Item = &Cid> {
        self.schemes.keys()
    }

    /// Decodes the record in a value, if a replica would admit it under `key` at `now`.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<IprsRecord, ValidationError> {
        self.admit(key, value, now).map(|(record, _)| record)
    }

    fn admit(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(IprsRecord, Validity), ValidationError> {
        let record = self.decode(key, value)?;
        let mut validity = self.scheme(&record.scheme())?.validate(&record, now)?;
        validity.identity = record.cid().hash().digest().try_into().ok();
        Ok((record, validity))
    }

    /// Decodes the record in a value and checks everything except its scheme's validity at a time.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn decode(&self, key: &RecordKey, value: &[u8]) -> Result<IprsRecord, ValidationError> {
        Limit::KEY_BYTES.check(key.as_bytes().len(), self.max_key_bytes)?;
        let (scheme, unverified) = self.unmarshal(value)?;
        scheme.rank(unverified.record())?;
        self.admission.admit(key, unverified.author())?;
        let record = unverified.verify(key)?;
        if scheme.marshal(&record) != value {
            return Err(IprsError::NotCanonical.into());
        }
        Ok(record)
    }

    /// Decodes the record in a value, without a check of its signature and its rank.
    fn unmarshal(
        &self,
        value: &[u8],
    ) -> Result<(&dyn Scheme, UnverifiedIprsRecord), ValidationError> {
        Limit::VALUE_BYTES.check(value.len(), self.max_bytes)?;
        let cid = scheme_of(value)?;
        let scheme = self.scheme(&cid)?;
        let unverified = scheme.unmarshal(value)?;
        if unverified.record().scheme != cid {
            return Err(IprsError::OtherScheme(Box::new(unverified.record().scheme)).into());
        }
        Ok((scheme, unverified))
    }

    /// Encodes a record in its scheme's form, as the value to put.
    ///
    /// # Errors
    /// [`ValidationError::Unsupported`] if the scheme is not known.
    pub fn marshal(&self, record: &IprsRecord) -> Result<Vec<u8>, ValidationError> {
        Ok(self.scheme(&record.scheme())?.marshal(record))
    }

    /// Compares two records: by version, then by the CID of the scheme, then by the scheme's
    /// [rank](Scheme::rank), then by the CID of the record. The better record is the greater. Only
    /// records with the same CID are equal.
    pub fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering {
        self.rank(a).cmp(&self.rank(b))
    }

    fn rank(&self, record: &IprsRecord) -> impl Ord + use<> {
        // A record of an unknown scheme is never decoded.
        let scheme = self.schemes.get(&record.scheme());
        let rank = scheme.and_then(|scheme| scheme.rank(record.record()).ok());
        (record.version(), record.scheme(), rank, record.cid())
    }

    /// The records of the ancestry chain under a key in these values, for example the answers of a
    /// lookup. Invalid values and records of other schemes are skipped.
    pub fn chain(&self, key: &RecordKey, values: &[&[u8]]) -> Chain {
        let mut chain = Chain::new(key.clone());
        for record in values.iter().filter_map(|value| self.decode(key, value).ok()) {
            // A record of another scheme is not part of the chain.
            let _ = chain.insert(record);
        }
        chain
    }

    fn scheme(&self, cid: &Cid) -> Result<&dyn Scheme, ValidationError> {
        self.schemes.get(cid).map(|scheme| &**scheme).ok_or_else(|| {
            ValidationError::Unsupported(format!("a record of the scheme {cid}, which is unknown"))
        })
    }
}

impl Validator for IprsValidator {
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        Limit::KEY_BYTES.check(key.as_bytes().len(), self.max_key_bytes)?;
        Ok(self.admission.check_key(key)?)
    }

    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.admit(key, value, now).map(|(_, validity)| validity)
    }

    /// Checks everything except the scheme's validity at a time: a beacon, for example, may be
    /// behind after a restart.
    fn revalidate(
        &self,
        key: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<(), ValidationError> {
        self.decode(key, value).map(drop)
    }

    /// Selects the greatest record by [`IprsValidator::order`]; of several signatures of one
    /// record, the least. Invalid values are skipped. It is an error if no value is valid.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_of(values, |value| {
            let record = self.decode(key, value)?;
            Ok((self.rank(&record), Reverse(record.signature().to_vec())))
        })
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    /// Whether both values are the same record, with the same signature or with another one.
    fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        let cid = |value| self.unmarshal(value).map(|(_, record)| record.cid()).ok();
        cid(whole).is_some_and(|whole| cid(part) == Some(whole))
    }
}

impl From<IprsError> for ValidationError {
    fn from(error: IprsError) -> Self {
        match error {
            IprsError::Limit(limit) => limit.into(),
            IprsError::Author(error) => error.into(),
            IprsError::Signature(_) => Self::Invalid(error.to_string()),
            error => Malformed::other(error).into(),
        }
    }
}
