//! Errors of client calls.

use super::Publication;
use crate::{
    query::RefusedAnswers,
    store::{StorageError, WriteError},
};
use smart_record_core::{Fault, RecordKey, SignError, ValidationError};

/// Errors of client calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The behaviour was dropped, with its swarm. If the swarm exists and is not polled, calls wait
    /// instead.
    #[error("the behaviour has stopped")]
    Stopped,
    /// The namespace of the key holds values, so there is no space to write to or to view. Use
    /// [`Client::get`](super::Client::get) and [`Client::put`](super::Client::put).
    #[error("the namespace of {0} holds values, not smart records")]
    NotSmart(RecordKey),
    /// Replicas would refuse the document or its lifetime.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The rules of the key's namespace refuse the key or the record, or the local store has no
    /// room for it.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The local store could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No peer answered in time, and this node has no copy: the content of the network is unknown.
    #[error("no peer answered in time")]
    TimedOut,
    /// No other peer acknowledged the write before its deadline. It is signed and stored locally.
    /// It is sent in the background for another half minute, then again after 10 to 20 seconds,
    /// after pauses that double, and soon after a new peer has appeared, until a peer acknowledges
    /// it. The publication is that of the write.
    #[error("no other peer has acknowledged the record")]
    NotAcknowledged(Box<Publication>),
    /// No peer could be reached, or no answer could be checked, and this node holds nothing under
    /// the key: what others hold is unknown. A node without any peer in its routing table is alone
    /// and reads its own store.
    #[error("no peer could be reached, so what is under the key is unknown")]
    Unreachable,
    /// Peers answered, and what they showed was refused: forged, expired, too large, or from ahead
    /// of this node's clock. This node holds nothing, so what is under the key is unknown. See
    /// [`Reading::refusal`](crate::query::Reading::refusal).
    #[error("nothing valid was found: {0}")]
    AnswersRefused(RefusedAnswers),
    /// Enough of the closest peers answered, and none of them holds what was published or something
    /// newer: those that acknowledged it have not kept it. Only
    /// [`Client::confirm`](super::Client::confirm) tells.
    #[error("no peer keeps the record")]
    NotKept,
}

impl ClientError {
    /// The class of the refusal, the same for every API: [`Fault::RefusedByPolicy`] if the writer
    /// may not write there, [`Fault::LimitExceeded`] if the document or its lifetime exceeds a
    /// limit, [`Fault::Expired`], [`Fault::Stale`] and so on. `None` if nothing was refused: no
    /// peer could be asked, or the storage failed.
    ///
    /// ```
    /// use libp2p_smart_record::{Fault, client::ClientError};
    ///
    /// fn explain(error: &ClientError) -> &'static str {
    ///     match error.fault() {
    ///         Some(Fault::RefusedByPolicy) => "not permitted",
    ///         Some(Fault::LimitExceeded) => "too large, or too long a lifetime",
    ///         Some(Fault::Expired) => "expired",
    ///         Some(_) => "refused",
    ///         None => "try again",
    ///     }
    /// }
    /// # assert_eq!(explain(&ClientError::TimedOut), "try again");
    /// ```
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::NotSmart(_) => Some(Fault::Unsupported),
            Self::Sign(error) => Some(error.fault()),
            Self::Refused(error) => error.fault(),
            Self::AnswersRefused(refused) => refused.fault(),
            Self::Stopped
            | Self::Storage(_)
            | Self::TimedOut
            | Self::NotAcknowledged(_)
            | Self::NotKept
            | Self::Unreachable => None,
        }
    }
}

impl ClientError {
    /// The write, if it was made and only [not acknowledged](Self::NotAcknowledged).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use libp2p_smart_record::{Dict, client::{Client, ClientError}};
    /// # async fn run(client: Client, document: Dict) -> Result<(), ClientError> {
    /// let published = client.publish("/sr/rooms/lobby", document, Duration::from_secs(60)).await;
    /// // It is good enough that it is signed and stored here.
    /// let publication = published.or_else(ClientError::into_publication)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error, if it is another.
    pub fn into_publication(self) -> Result<Publication, Self> {
        match self {
            Self::NotAcknowledged(publication) => Ok(*publication),
            error => Err(error),
        }
    }
}

impl From<RefusedAnswers> for ClientError {
    fn from(refused: RefusedAnswers) -> Self {
        Self::AnswersRefused(refused)
    }
}

impl From<ValidationError> for ClientError {
    fn from(error: ValidationError) -> Self {
        Self::Refused(error.into())
    }
}
