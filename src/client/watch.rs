//! Streams of the known content of a record.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};

use super::{ClientError, latest::LatestReceiver};
use crate::{
    pulse::{NotPolled, Pulse, Wait},
    query::{Reading, Snapshot},
};

/// Stream of snapshots of a record, one for each change; see
/// [`Client::watch`](super::Client::watch). A slow reader misses intermediate snapshots.
///
/// It ends with the behaviour and with the last client. If nobody polls the swarm for twice
/// [`poll_timeout`](crate::behaviour::BehaviourConfig::poll_timeout) it ends as well, and
/// [`error`](Self::error) says so; it goes on when it is polled again.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Watch(Updates<Arc<Snapshot>>);

impl Watch {
    pub(super) const fn new(receiver: LatestReceiver<Arc<Snapshot>>, pulse: Pulse) -> Self {
        Self(Updates::new(receiver, pulse))
    }

    /// Why the stream has ended, if that is [`ClientError::NotPolled`].
    pub fn error(&self) -> Option<ClientError> {
        self.0.error.map(ClientError::from)
    }
}

impl Stream for Watch {
    type Item = Arc<Snapshot>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

/// Stream of ever better readings of a record; see [`Client::read`](super::Client::read). A slow
/// reader misses intermediate readings.
///
/// It ends after the settled reading. If nobody polls the swarm for twice
/// [`poll_timeout`](crate::behaviour::BehaviourConfig::poll_timeout) it ends as well, and
/// [`error`](Self::error) says so; it goes on when it is polled again.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Readings(Updates<Reading>);

impl Readings {
    pub(super) const fn new(receiver: LatestReceiver<Reading>, pulse: Pulse) -> Self {
        Self(Updates::new(receiver, pulse))
    }

    /// Why the stream has ended, if that is [`ClientError::NotPolled`].
    pub fn error(&self) -> Option<ClientError> {
        self.0.error.map(ClientError::from)
    }
}

impl Stream for Readings {
    type Item = Reading;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

/// Values that come as long as the swarm is polled.
#[derive(Debug)]
struct Updates<T> {
    receiver: LatestReceiver<T>,
    pulse: Pulse,
    /// The wait for the next value.
    wait: Option<Wait>,
    error: Option<NotPolled>,
}

impl<T> Updates<T> {
    const fn new(receiver: LatestReceiver<T>, pulse: Pulse) -> Self {
        Self { receiver, pulse, wait: None, error: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.error = None;
        if let Poll::Ready(next) = self.receiver.poll_next_unpin(cx) {
            self.wait = None;
            return Poll::Ready(next);
        }
        let wait = self.wait.get_or_insert_with(|| Wait::of_stream(&self.pulse));
        wait.poll(cx).map(|not_polled| {
            tracing::warn!("nobody polls the swarm: a stream has ended");
            self.error = Some(not_polled);
            self.wait = None;
            None
        })
    }
}
