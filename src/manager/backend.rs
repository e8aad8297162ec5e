//! Interface of a manager to the storage of its records.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::query::{Reading, RefusedAnswers};
use smart_record_core::{RecordKey, ValidationError};

/// Storage of a manager's records. It is untrusted: the manager validates every answer.
pub trait RecordBackend: Send + Sync {
    /// Error of the backend.
    type Error: Error + Send + Sync + 'static;

    /// Returns every answer under `key`, from any holder. An empty result is no error.
    ///
    /// # Errors
    /// If no holder could be asked.
    fn fetch(
        &self,
        key: &RecordKey,
    ) -> impl Future<Output = Result<BackendAnswers, Self::Error>> + Send;

    /// Puts a complete value under `key`. Returns the number of other peers that acknowledged it.
    ///
    /// # Errors
    /// If it was not stored, or not where it should be.
    fn put(
        &self,
        key: &RecordKey,
        value: Bytes,
    ) -> impl Future<Output = Result<usize, Self::Error>> + Send;

    /// Whether an error means that the backend has stopped for good, so that no later call can
    /// succeed.
    fn has_stopped(error: &Self::Error) -> bool;

    /// Sends a value to the holders that lack it, best effort. A backend whose reads do that by
    /// themselves does nothing here.
    fn correct(&self, correction: Correction) -> impl Future<Output = ()> + Send;
}

/// Answers of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BackendAnswers {
    /// Values, each with its holder.
    pub answers: Vec<HeldValue>,
    /// Holders that should have a value and have none.
    pub missing: Vec<Holder>,
    /// Holders whose value the backend found to be invalid, with the errors.
    pub refused: Vec<(Holder, ValidationError)>,
}

impl From<Reading> for BackendAnswers {
    fn from(reading: Reading) -> Self {
        let lifetime = reading.expires_at.map(|at| at.saturating_since(reading.snapshot.at));
        let answers = reading.values().map(|(holder, value)| {
            let holder = holder.map_or(Holder::Local, Holder::Peer);
            HeldValue { holder, value: value.clone(), lifetime }
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

impl From<RefusedAnswers> for BackendAnswers {
    fn from(refused: RefusedAnswers) -> Self {
        let refused = refused.into_iter().map(|(peer, error)| (Holder::Peer(peer), error));
        Self { refused: refused.collect(), ..Self::default() }
    }
}

/// A value with its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldValue {
    /// The holder.
    pub holder: Holder,
    /// The value, not validated.
    pub value: Bytes,
    /// How long the holder will keep it; `None` for no limit. This is not signed.
    pub lifetime: Option<Duration>,
}

/// Node that holds a value. Exhaustive: it is this node or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// This node.
    Local,
    /// Another node.
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

/// A value for holders that lack it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Its key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// How long it is to be kept; `None` for no limit.
    pub lifetime: Option<Duration>,
    /// Its recipients.
    pub holders: Vec<Holder>,
}
