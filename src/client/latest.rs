//! A channel that holds only the latest value. A slow receiver misses intermediate values; neither
//! end waits for the other.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::Stream;

#[derive(Debug)]
struct LatestState<T> {
    latest: Option<T>,
    is_closed: bool,
    receiver: Option<Waker>,
}

/// Sender of the channel. Dropping it ends the receiver's stream.
#[derive(Debug)]
pub(crate) struct LatestSender<T>(Arc<Mutex<LatestState<T>>>);

/// Receiver of the channel: a stream of values.
#[derive(Debug)]
pub(crate) struct LatestReceiver<T>(Arc<Mutex<LatestState<T>>>);

pub(crate) fn channel<T>() -> (LatestSender<T>, LatestReceiver<T>) {
    let shared = LatestState { latest: None, is_closed: false, receiver: None };
    let shared = Arc::new(Mutex::new(shared));
    (LatestSender(shared.clone()), LatestReceiver(shared))
}

fn lock<T>(shared: &Mutex<LatestState<T>>) -> MutexGuard<'_, LatestState<T>> {
    // A panic cannot leave the state inconsistent.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> LatestSender<T> {
    /// Sends a value, replacing one that was not received yet.
    pub(crate) fn send(&self, value: T) {
        let mut shared = lock(&self.0);
        shared.latest = Some(value);
        let waker = shared.receiver.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the receiver is dropped.
    pub(crate) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Drop for LatestSender<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.is_closed = true;
        let waker = shared.receiver.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Stream for LatestReceiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut shared = lock(&self.0);
        if let Some(value) = shared.latest.take() {
            return Poll::Ready(Some(value));
        }
        if shared.is_closed {
            return Poll::Ready(None);
        }
        shared.receiver = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, executor::block_on};

    use super::*;

    #[test]
    fn only_the_latest_is_received_and_then_the_end() {
        let (sender, mut receiver) = channel();
        assert!(receiver.next().now_or_never().is_none());
        sender.send(1);
        sender.send(2);
        assert_eq!(block_on(receiver.next()), Some(2));
        sender.send(3);
        assert!(!sender.is_closed());
        drop(sender);
        assert_eq!(block_on(receiver.next()), Some(3));
        assert_eq!(block_on(receiver.next()), None);
    }

    #[test]
    fn the_sender_detects_a_dropped_receiver() {
        let (sender, receiver) = channel::<()>();
        drop(receiver);
        assert!(sender.is_closed());
    }
}
