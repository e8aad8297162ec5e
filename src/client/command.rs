//! What passes between a client and its behaviour: what is asked, and who waits for the answer.
//!
//! **Invariants.** Whoever dropped the other end has lost interest; that is no error.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::channel::oneshot;

use super::{ClientError, Publication, latest};
use crate::{
    query::{ReadPolicy, Reading, Snapshot},
    store::SmartRecordStore,
};
use smart_record_core::{Dict, RecordKey};

/// Who waits for an answer, and within which span.
pub(crate) struct Reply<T> {
    sender: oneshot::Sender<Result<T, ClientError>>,
    span: tracing::Span,
}

impl<T> Reply<T> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T, ClientError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender, span: tracing::Span::current() }, receiver)
    }

    pub(crate) const fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.is_canceled()
    }

    /// Answers whoever asked, who may have lost interest.
    pub(crate) fn send(self, result: Result<T, ClientError>) {
        let _ = self.sender.send(result);
    }
}

/// A write to an own space.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Merge(Dict, Duration),
    Replace(Dict, Duration),
    /// As `Merge`, and signed anew for as long as nothing else takes its place.
    Keep(Dict, Duration),
    Withdraw,
}

impl Write {
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Merge(..) => "merge",
            Self::Replace(..) => "replace",
            Self::Keep(..) => "keep",
            Self::Withdraw => "withdraw",
        }
    }
}

/// What a client asks of a behaviour.
pub(crate) enum Command {
    Write(RecordKey, Write, Reply<Publication>),
    Put(RecordKey, Bytes, Reply<Publication>),
    Read(RecordKey, Option<ReadPolicy>, Reply<Reading>),
    Watch(RecordKey, latest::Sender<Arc<Snapshot>>),
    /// Something is looked up in our own store.
    Look(Box<dyn FnOnce(&mut SmartRecordStore) + Send>),
}

impl Command {
    /// Whether whoever has given it has lost interest.
    pub(crate) fn is_canceled(&self) -> bool {
        match self {
            Self::Write(.., reply) | Self::Put(.., reply) => reply.is_gone(),
            Self::Read(.., reply) => reply.is_gone(),
            Self::Watch(_, sender) => sender.is_closed(),
            Self::Look(_) => false,
        }
    }
}
