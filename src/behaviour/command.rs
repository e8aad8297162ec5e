//! What a client asks of a behaviour.
//!
//! **Invariants.** Whoever dropped the other end has lost interest; that is no error.

use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use libp2p_identity::PeerId;

use super::own::Write;
use crate::{
    client::{ClientError, Publication, latest},
    key::RecordKey,
    query::{ReadPolicy, Reading, Snapshot},
    record::SmartRecord,
    store::storage::RecordId,
};

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

    pub(super) const fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Whether nobody waits any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_canceled()
    }
}

/// What a client asks of a behaviour.
pub(crate) enum Command {
    Write {
        key: RecordKey,
        write: Write,
        reply: Reply<Publication>,
    },
    Put {
        key: RecordKey,
        value: Bytes,
        reply: Reply<Publication>,
    },
    Read {
        key: RecordKey,
        policy: Option<ReadPolicy>,
        reply: Reply<Reading>,
    },
    Watch {
        key: RecordKey,
        sender: latest::Sender<Arc<Snapshot>>,
    },
    /// What our own store has of a smart record, or of one writer's space in it.
    Stored {
        key: RecordKey,
        writer: Option<PeerId>,
        reply: Reply<Option<SmartRecord>>,
    },
    /// The record in our own store after this one.
    NextStored {
        after: Option<RecordId>,
        reply: Reply<Option<(RecordId, RecordKey)>>,
    },
}

impl Command {
    /// Whether whoever has given it has lost interest.
    pub(super) fn is_canceled(&self) -> bool {
        match self {
            Self::Write { reply, .. } | Self::Put { reply, .. } => reply.is_gone(),
            Self::Read { reply, .. } => reply.is_gone(),
            Self::Watch { sender, .. } => sender.is_closed(),
            Self::Stored { reply, .. } => reply.is_gone(),
            Self::NextStored { reply, .. } => reply.is_gone(),
        }
    }
}

/// Answers whoever asked, who may have lost interest.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, ClientError>) {
    let _ = reply.sender.send(result);
}
