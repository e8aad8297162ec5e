//! The limits of signed records.

use std::time::Duration;

use smart_record_core::{
    DEFAULT_KEY_BYTES, Limit, LimitExceeded, MAX_PUBLIC_KEY_BYTES, MAX_SIGNATURE_BYTES, RecordKey,
    Seq, Timestamp, settings,
};

/// Upper bound of the tags and lengths of the fields, the sequence, the expiry and the payload
/// type.
const FRAMING_BYTES: usize = 128;

/// The limits of signed records.
///
/// They decide what a replica keeps, so all nodes of a DHT should use the same limits for a
/// namespace.
///
/// ```
/// use smart_record_formats::signed::SignedRecordLimits;
///
/// let limits = SignedRecordLimits::default().with_value_bytes(1_024);
/// assert_eq!(limits.key_bytes(), 256);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecordLimits {
    key_bytes: usize,
    value_bytes: usize,
    max_clock_skew: Duration,
}

impl Default for SignedRecordLimits {
    fn default() -> Self {
        Self {
            key_bytes: DEFAULT_KEY_BYTES,
            value_bytes: 6 * 1_024,
            max_clock_skew: Duration::from_secs(5 * 60),
        }
    }
}

settings! { SignedRecordLimits:
    /// Maximum length of a key, in bytes. Defaults to 256, as for smart records.
    key_bytes, with_key_bytes: usize;
    /// Maximum size of a value, in bytes. Defaults to 6 KiB: with the longest key and the signature
    /// of an Ed25519 key it fits into a reply to a GET that also carries 20 peers with eight
    /// addresses each, which leave 7.6 KiB.
    value_bytes, with_value_bytes: usize;
    /// Maximum difference by which a sequence, read as Unix microseconds, may be ahead of the
    /// replica's clock. Defaults to 5 minutes, as for smart records. The limit keeps a writer from
    /// using the greatest sequence, after which no other write would win. [`Duration::MAX`] allows
    /// any sequence.
    max_clock_skew, with_max_clock_skew: Duration;
}

impl SignedRecordLimits {
    /// Limit of the size of a value, in bytes.
    pub const CONTENT_BYTES: Limit = Limit::new("the content of the signed record", "bytes");

    /// The maximum size of an encoded record, in bytes. It is checked before the record is parsed.
    pub const fn encoded_bytes(&self) -> usize {
        FRAMING_BYTES
            .saturating_add(MAX_PUBLIC_KEY_BYTES)
            .saturating_add(MAX_SIGNATURE_BYTES)
            .saturating_add(self.key_bytes)
            .saturating_add(self.value_bytes)
    }

    pub(super) fn check_envelope(&self, len: usize) -> Result<(), LimitExceeded> {
        Limit::VALUE_BYTES.check(len, self.encoded_bytes())
    }

    pub(crate) fn check_parts(&self, key: &RecordKey, value: usize) -> Result<(), LimitExceeded> {
        Limit::KEY_BYTES.check(key.as_bytes().len(), self.key_bytes)?;
        Self::CONTENT_BYTES.check(value, self.value_bytes)
    }

    /// Checks that a sequence, read as microseconds of Unix time, is not too far ahead of `now`.
    ///
    /// # Errors
    /// [`LimitExceeded`] of [`Limit::CLOCK_SKEW`].
    pub fn check_lead(&self, sequence: u64, now: Timestamp) -> Result<(), LimitExceeded> {
        let lead = Seq::from_micros(sequence).issued_at().saturating_since(now);
        if lead > self.max_clock_skew {
            return Err(LimitExceeded {
                limit: Limit::CLOCK_SKEW,
                got: u64::try_from(lead.as_millis()).ok(),
                max: u64::try_from(self.max_clock_skew.as_millis()).unwrap_or(u64::MAX),
            });
        }
        Ok(())
    }
}
