//! The built-in beacon: a hash chain signed by an authority.
//!
//! It is an [`Ancestry`](super::Ancestry) chain under a key of the authority. A round is a height,
//! and its value is the CID of its record. Each record contains something unpredictable, such as 32
//! random bytes, so only the authority knows a value before it is published. No clock is needed:
//! rounds measure the time, and a reader knows those that it has received.
//!
//! **Invariants.** A [`ChainBeacon`] advances one round at a time, each linked to the one before.
//! It detects an authority that shows it two histories.
//!
//! The authority is trusted not to publish in advance, not to withhold rounds, and not to show
//! different histories to different readers, which one reader alone cannot detect.
//!
//! **Spec.** IPRS, "Signed, with cryptographic freshness", leaves the notion of freshness open.

use std::collections::VecDeque;

use cid::Cid;

use super::{
    IprsError, IprsRecord,
    ancestry::Place,
    freshness::{Beacon, BeaconCitation, BeaconError},
};
use smart_record_core::{RecordKey, Writer};

/// A beacon that follows a chain of records signed by an authority.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_core::RecordKey;
/// use smart_record_formats::iprs::{Ancestry, Beacon, ChainBeacon};
///
/// let authority = Keypair::generate_ed25519();
/// let key = RecordKey::new(format!("/iprs/{}/beacon", authority.public().to_peer_id()));
/// let random = |n: u8| vec![n; 32]; // Yours are from a random number generator.
/// let first = Ancestry::first(random(1)).sign(&key, &authority)?;
/// let mut beacon = ChainBeacon::new(&first)?;
/// let cited = beacon.newest();
///
/// let second = Ancestry::child(random(2), &first)?.sign(&key, &authority)?;
/// beacon.advance(&second)?;
/// assert_eq!(beacon.age(&cited), Ok(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChainBeacon {
    first: Cid,
    key: RecordKey,
    authority: Writer,
    newest_round: u64,
    /// The values of the last rounds, the newest last; never empty.
    values: VecDeque<Cid>,
    window: usize,
}

/// Why a beacon does not advance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvanceError {
    /// The record does not belong to an ancestry chain.
    #[error(transparent)]
    Record(#[from] IprsError),
    /// A beacon starts at round 0, or at a later round that is trusted: see
    /// [`ChainBeacon::resume`].
    #[error("round {round} is not the first of a beacon")]
    NotFirst {
        /// The round.
        round: u64,
    },
    /// The record has another author or another key.
    #[error("not a record of this beacon")]
    OtherBeacon,
    /// The rounds in between are missing.
    #[error("round {round} does not follow on round {newest}")]
    Gap {
        /// The record's round.
        round: u64,
        /// The newest round known.
        newest: u64,
    },
    /// The authority has signed two histories. Do not trust it any more.
    #[error("the beacon's authority has signed another history up to round {round}")]
    Fork {
        /// The record's round.
        round: u64,
    },
    /// The beacon does not remember a round that old.
    #[error("round {round} is older than {oldest}, the oldest known")]
    TooOld {
        /// The record's round.
        round: u64,
        /// The oldest round known.
        oldest: u64,
    },
}

impl ChainBeacon {
    /// Number of rounds that a beacon remembers by default: 1,024, at about 72 bytes each.
    pub const WINDOW: usize = 1_024;

    /// Creates a beacon at its first round. The source of the record is trusted that it is the
    /// first.
    ///
    /// # Errors
    /// [`AdvanceError`] if it is not the first record of a chain.
    pub fn new(first: &IprsRecord) -> Result<Self, AdvanceError> {
        match Place::of(first)?.height {
            0 => Self::resume(first.cid(), first),
            round => Err(AdvanceError::NotFirst { round }),
        }
    }

    /// Creates a beacon at a later round. The source of the checkpoint is trusted that it descends
    /// from the record whose CID is `first`. That CID identifies the beacon.
    ///
    /// # Errors
    /// [`AdvanceError`] if it is not a record of a chain, or is a first record with another CID.
    pub fn resume(first: Cid, checkpoint: &IprsRecord) -> Result<Self, AdvanceError> {
        let newest_round = Place::of(checkpoint)?.height;
        if newest_round == 0 && checkpoint.cid() != first {
            return Err(AdvanceError::OtherBeacon);
        }
        Ok(Self {
            first,
            key: checkpoint.key().clone(),
            authority: checkpoint.author().clone(),
            newest_round,
            values: [checkpoint.cid()].into(),
            window: Self::WINDOW,
        })
    }

    /// Sets the number of rounds that are remembered, at least one. A citation of an older round
    /// counts as too old, so the number has to be greater than any threshold.
    #[must_use]
    pub fn with_window(mut self, rounds: usize) -> Self {
        self.window = rounds.max(1);
        self.forget();
        self
    }

    /// The newest value known, for a record to cite.
    pub fn newest(&self) -> BeaconCitation {
        // `values` is never empty.
        let value = self.values.back().copied().unwrap_or(self.first);
        BeaconCitation { round: self.newest_round, value }
    }

    /// Advances by one round. Returns whether that round is new.
    ///
    /// # Errors
    /// [`AdvanceError`] if the record is not the next one of this beacon. [`AdvanceError::Fork`]
    /// proves that the authority signed two histories.
    pub fn advance(&mut self, record: &IprsRecord) -> Result<bool, AdvanceError> {
        let Place { height: round, parent } = Place::of(record)?;
        if *record.key() != self.key || *record.author() != self.authority {
            return Err(AdvanceError::OtherBeacon);
        }
        let newest = self.newest();
        if round <= newest.round {
            return match self.value(round) {
                Some(value) if value == record.cid() => Ok(false),
                Some(_) => Err(AdvanceError::Fork { round }),
                None => Err(AdvanceError::TooOld { round, oldest: self.oldest_round() }),
            };
        }
        if Some(round) != newest.round.checked_add(1) {
            return Err(AdvanceError::Gap { round, newest: newest.round });
        }
        if parent != Some(newest.value) {
            return Err(AdvanceError::Fork { round });
        }
        self.newest_round = round;
        self.values.push_back(record.cid());
        self.forget();
        Ok(true)
    }

    fn forget(&mut self) {
        let surplus = self.values.len().saturating_sub(self.window);
        self.values.drain(..surplus);
    }

    fn oldest_round(&self) -> u64 {
        let older = u64::try_from(self.values.len().saturating_sub(1)).unwrap_or(u64::MAX);
        self.newest_round.saturating_sub(older)
    }

    /// The value of a round, if it is remembered.
    fn value(&self, round: u64) -> Option<Cid> {
        let index = round.checked_sub(self.oldest_round())?;
        self.values.get(usize::try_from(index).ok()?).copied()
    }
}

impl Beacon for ChainBeacon {
    /// The CID of the first record.
    fn id(&self) -> Cid {
        self.first
    }

    fn age(&self, cited: &BeaconCitation) -> Result<u64, BeaconError> {
        let round = cited.round;
        match (self.newest_round.checked_sub(round), self.value(round)) {
            (None, _) => Err(BeaconError::Future { round, newest: self.newest_round }),
            (Some(age), Some(value)) if value == cited.value => Ok(age),
            (Some(_), Some(_)) => Err(BeaconError::Forged { round }),
            (Some(_), None) => Err(BeaconError::TooOld { round, oldest: self.oldest_round() }),
        }
    }
}
