//! Commands from a client to its behaviour, and the replies to them.
//!
//! **Invariants.** A dropped receiver is no error.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, channel::oneshot};

use super::{ClientError, Publication, latest};
use crate::{
    query::{ReadOptions, Reading, Snapshot},
    store::SmartRecordStore,
};
use smart_record_core::{Dict, RecordKey, Stamp};

/// Sender of a reply, with the tracing span of the call.
pub(crate) struct Reply<T> {
    /// `None`: no caller waits; the command still runs.
    sender: Option<oneshot::Sender<Result<T, ClientError>>>,
    span: tracing::Span,
}

impl<T> Reply<T> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T, ClientError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender: Some(sender), span: tracing::Span::current() }, receiver)
    }

    /// Reply to a command without a caller: a failure is logged.
    pub(crate) fn nobody() -> Self {
        Self { sender: None, span: tracing::Span::none() }
    }

    pub(crate) const fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Whether the caller has dropped its end.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.as_ref().is_some_and(oneshot::Sender::is_canceled)
    }

    /// Sends the result. A caller that dropped its end is ignored.
    pub(crate) fn send(self, result: Result<T, ClientError>) {
        match (self.sender, result) {
            (Some(sender), result) => drop(sender.send(result)),
            (None, Err(error)) => {
                tracing::warn!(%error, "the withdrawal of a kept document failed")
            }
            (None, Ok(_)) => {}
        }
    }
}

/// Id of a handle: distinguishes what different handles keep under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeepId(pub(crate) u64);

/// How a handle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The handle was dropped: what it kept is withdrawn.
    Dropped,
    /// The handle was detached: what it kept stays kept.
    Detached,
}

/// Future that resolves when a handle ends.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(super) key: RecordKey,
    pub(super) id: KeepId,
    pub(super) end: oneshot::Receiver<()>,
}

impl Future for Ending {
    type Output = (RecordKey, KeepId, End);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let end = match ready!(self.end.poll_unpin(cx)) {
            Ok(()) => End::Detached,
            Err(oneshot::Canceled) => End::Dropped,
        };
        Poll::Ready((self.key.clone(), self.id, end))
    }
}

/// A write to the client's own space.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Merge(Dict, Duration),
    Replace(Dict, Duration),
    /// As `Merge`, and signed anew until it is overwritten, withdrawn, or the handle is dropped.
    Keep(KeepId, Dict, Duration),
    /// As `Keep`; what the handle kept before and this document lacks is withdrawn.
    KeepOnly(KeepId, Dict, Duration),
    /// Withdraws what a handle keeps.
    WithdrawKept(KeepId),
    Withdraw,
}

impl Write {
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Merge(..) => "merge",
            Self::Replace(..) => "replace",
            Self::Keep(..) => "keep",
            Self::KeepOnly(..) => "keep only",
            Self::WithdrawKept(_) => "withdraw what is kept",
            Self::Withdraw => "withdraw",
        }
    }
}

/// A command to the behaviour.
pub(crate) enum Command {
    Write(RecordKey, Write, Reply<Publication>),
    /// The id is that of the handle that keeps the value, if any.
    Put(RecordKey, Bytes, Option<KeepId>, Reply<Publication>),
    /// Sets the stamp of the updates that are signed under a key.
    Stamp(RecordKey, Option<Stamp>, Reply<()>),
    /// Registers a handle, which will end.
    Handle(Ending),
    Read(RecordKey, ReadOptions, Reply<Reading>),
    Stream(RecordKey, ReadOptions, latest::LatestSender<Reading>),
    Watch(RecordKey, latest::LatestSender<Arc<Snapshot>>),
    /// Replies when no operation of clients is under way.
    Close(Reply<()>),
    /// Runs a function on the local store.
    WithStore(Box<dyn FnOnce(&mut SmartRecordStore) + Send>),
}

impl Command {
    /// Whether the caller has dropped its end.
    pub(crate) fn is_canceled(&self) -> bool {
        match self {
            Self::Write(.., reply) | Self::Put(.., reply) => reply.is_gone(),
            Self::Read(.., reply) => reply.is_gone(),
            Self::Stream(.., sender) => sender.is_closed(),
            Self::Watch(_, sender) => sender.is_closed(),
            Self::Close(reply) | Self::Stamp(.., reply) => reply.is_gone(),
            Self::Handle(_) | Self::WithStore(_) => false,
        }
    }
}
