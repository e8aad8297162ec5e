//! Streams of the known content of a record.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};

use super::latest::LatestReceiver;
use crate::query::{Reading, Snapshot};

/// Stream of snapshots of a record, one for each change; see
/// [`Client::watch`](super::Client::watch). A slow reader misses intermediate snapshots.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Watch(LatestReceiver<Arc<Snapshot>>);

impl Watch {
    pub(super) const fn new(receiver: LatestReceiver<Arc<Snapshot>>) -> Self {
        Self(receiver)
    }
}

impl Stream for Watch {
    type Item = Arc<Snapshot>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Stream of ever better readings of a record; see [`Client::read`](super::Client::read). A slow
/// reader misses intermediate readings.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Readings(LatestReceiver<Reading>);

impl Readings {
    pub(super) const fn new(receiver: LatestReceiver<Reading>) -> Self {
        Self(receiver)
    }
}

impl Stream for Readings {
    type Item = Reading;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
