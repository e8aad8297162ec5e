//! What passes between a client and its behaviour: what is asked, and who waits for the answer.
//!
//! **Invariants.** Whoever dropped the other end has lost interest; that is no error.

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
    query::{ReadPolicy, Reading, Snapshot},
    store::SmartRecordStore,
};
use smart_record_core::{Dict, RecordKey};

/// Who waits for an answer, and within which span.
pub(crate) struct Reply<T> {
    /// `None`: nobody waits, and it is done all the same.
    sender: Option<oneshot::Sender<Result<T, ClientError>>>,
    span: tracing::Span,
}

impl<T> Reply<T> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<T, ClientError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender: Some(sender), span: tracing::Span::current() }, receiver)
    }

    /// Of something that nobody waits for: a failure is logged.
    pub(crate) fn nobody() -> Self {
        Self { sender: None, span: tracing::Span::none() }
    }

    pub(crate) const fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Whether whoever waited does not any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.sender.as_ref().is_some_and(oneshot::Sender::is_canceled)
    }

    /// Answers whoever asked, who may have lost interest.
    pub(crate) fn send(self, result: Result<T, ClientError>) {
        match (self.sender, result) {
            (Some(sender), result) => drop(sender.send(result)),
            (None, Err(error)) => tracing::warn!(%error, "what a handle kept was not withdrawn"),
            (None, Ok(_)) => {}
        }
    }
}

/// What one handle keeps, told apart from what others keep under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeepId(pub(crate) u64);

/// How a handle has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What it kept is withdrawn.
    Dropped,
    /// What it kept is kept without it.
    Detached,
}

/// Waits for the end of a handle.
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

/// A write to an own space.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Merge(Dict, Duration),
    Replace(Dict, Duration),
    /// As `Merge`, and signed anew for as long as nothing else takes its place and the handle does not end.
    Keep(KeepId, Dict, Duration),
    /// Withdraws what a handle keeps.
    WithdrawKept(KeepId),
    Withdraw,
}

impl Write {
    /// Whether it takes the place of what the space has said before.
    pub(crate) const fn replaces(&self) -> bool {
        !matches!(self, Self::Merge(..))
    }

    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Merge(..) => "merge",
            Self::Replace(..) => "replace",
            Self::Keep(..) => "keep",
            Self::WithdrawKept(_) => "withdraw what is kept",
            Self::Withdraw => "withdraw",
        }
    }
}

/// What a client asks of a behaviour.
pub(crate) enum Command {
    Write(RecordKey, Write, Reply<Publication>),
    /// With a handle that keeps the value from then on, or none.
    Put(RecordKey, Bytes, Option<KeepId>, Reply<Publication>),
    /// There is a handle, which will have an end.
    Handle(Ending),
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
            Self::Handle(_) | Self::Look(_) => false,
        }
    }
}
