//! What a manager asks of the thing that keeps its records.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::query::Reading;
use smart_record_core::{RecordKey, ValidationError};

/// Where records are kept. Nobody has to trust it: the manager checks all that it answers.
pub trait RecordBackend: Send + Sync {
    /// What can go wrong.
    type Error: Error + Send + Sync + 'static;

    /// All that can be found under `key`, from whomever. If there is nothing, that is no error.
    ///
    /// # Errors
    /// If nobody could be asked.
    fn fetch(&self, key: &RecordKey) -> impl Future<Output = Result<Found, Self::Error>> + Send;

    /// Puts a value that is complete as it is under `key`. Returns how many other peers have taken
    /// it.
    ///
    /// # Errors
    /// If it was stored nowhere, or not where it should be.
    fn put(
        &self,
        key: &RecordKey,
        value: Bytes,
    ) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// Sends a value to those who lack it, as well as it can. By default it does nothing.
    fn correct(&self, correction: Correction) -> impl Future<Output = ()> + Send {
        drop(correction);
        std::future::ready(())
    }
}

/// What a backend has found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Found {
    /// The values, each with the one who has it.
    pub answers: Vec<Answer>,
    /// Those who should have a value and have none.
    pub missing: Vec<Holder>,
    /// Those whose value the backend has found to be no good, and why.
    pub refused: Vec<(Holder, ValidationError)>,
}

impl From<Reading> for Found {
    fn from(reading: Reading) -> Self {
        let lifetime = reading.expires_at.map(|at| at.saturating_since(reading.snapshot.at));
        let answers = reading.values().map(|(holder, value)| {
            let holder = holder.map_or(Holder::Local, Holder::Peer);
            Answer { holder, value: value.clone(), lifetime }
        });
        Self {
            answers: answers.collect(),
            missing: reading.empty.into_iter().map(Holder::Peer).collect(),
            refused: reading
                .refused
                .into_iter()
                .map(|(p, error)| (Holder::Peer(p), error))
                .collect(),
        }
    }
}

/// A value that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub holder: Holder,
    /// The value, whatever it is.
    pub value: Bytes,
    /// For how long it will be kept there; `None` if no end is set. Nobody has signed that.
    pub lifetime: Option<Duration>,
}

/// Who has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// This node.
    Local,
    /// Another one.
    Peer(PeerId),
}

impl Holder {
    /// The peer, unless it is this node.
    pub(super) const fn peer(self) -> Option<PeerId> {
        match self {
            Self::Local => None,
            Self::Peer(peer) => Some(peer),
        }
    }
}

/// A value for those who lack it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Its key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// For how long it shall be kept; `None` if no end is set.
    pub lifetime: Option<Duration>,
    /// Who shall have it.
    pub holders: Vec<Holder>,
}
