//! The order of the signed records of a key.
//!
//! **Invariants.** [`Rank`] is a total order. Two ranks are equal only if record and signature are
//! the same.

use std::{cmp::Reverse, fmt};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::proto::signed_record::Envelope;

/// Order of the signed records of a key: by sequence, then by the SHA-256 of the envelope without
/// the signature. Of two signatures of the same content, the lesser is the better.
///
/// The signature comes last because for some key types anyone can turn a valid signature into
/// another valid one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    sequence: u64,
    hash: [u8; 32],
    signature: Reverse<Bytes>,
}

impl Rank {
    pub(super) fn new(sequence: u64, mut envelope: Envelope) -> Self {
        let signature = Reverse(std::mem::take(&mut envelope.signature));
        Self { sequence, hash: Sha256::digest(envelope.encode_to_vec()).into(), signature }
    }

    /// The sequence of the record.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The SHA-256 of the record's envelope without the signature. It is equal for two records only
    /// if author, key, value, sequence and expiry are.
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The rank without the signature. Records for which it is equal have the same content.
    pub const fn of_content(&self) -> (u64, [u8; 32]) {
        (self.sequence, self.hash)
    }
}

/// Shows the sequence and the first four bytes of the hash.
impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.sequence)?;
        self.hash.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
