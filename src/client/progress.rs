//! Progress of a write after its call has returned.
//!
//! **Invariants.** A task that waits for the end is woken at the end, also if the behaviour is
//! dropped.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use libp2p_identity::PeerId;

use crate::pulse::{NotPolled, Pulse, Wait};

/// State of a write at each peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// State by recipient.
    pub replicas: BTreeMap<PeerId, ReplicaState>,
    /// Whether the state is final.
    pub is_over: bool,
}

/// State of a write at one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplicaState {
    /// It was sent, or waits to be sent. Nobody is left so at the end.
    Sent,
    /// The peer has acknowledged it. That does not prove storage: Kademlia acknowledges a record
    /// before it is checked.
    Acknowledged,
    /// The peer has returned it when asked for the record.
    Shown,
    /// The peer has acknowledged it, and did not return it when asked for the record. If the record
    /// is larger than one answer, it may be in another slice.
    NotShown,
    /// The peer has acknowledged it, and returns something newer in its place.
    Stale,
    /// The peer has refused it: it closed the stream, or sent an invalid answer. Kademlia's
    /// protocol gives no reason.
    Refused,
    /// The peer did not answer, or could not be reached.
    Silent,
}

impl Progress {
    /// The peers that have acknowledged all of it, whatever they return.
    pub fn acknowledged(&self) -> impl Iterator<Item = PeerId> {
        let has_acknowledged = |state: &ReplicaState| match state {
            ReplicaState::Acknowledged
            | ReplicaState::Shown
            | ReplicaState::NotShown
            | ReplicaState::Stale => true,
            ReplicaState::Sent | ReplicaState::Refused | ReplicaState::Silent => false,
        };
        let acknowledged = self.replicas.iter().filter(move |(_, state)| has_acknowledged(state));
        acknowledged.map(|(peer, _)| *peer)
    }

    /// The peers with this state.
    pub fn peers(&self, state: ReplicaState) -> impl Iterator<Item = PeerId> {
        self.replicas.iter().filter(move |(_, it)| **it == state).map(|(peer, _)| *peer)
    }
}

#[derive(Debug, Default)]
struct ProgressCell {
    progress: Progress,
    waiting: Vec<Waker>,
}

/// Receiver of the progress of a write. A clone follows the same write.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProgressReceiver {
    cell: Arc<Mutex<ProgressCell>>,
    /// Detects a swarm that is not polled.
    pulse: Option<Pulse>,
}

/// Sender of the progress of a write. Dropping it makes the state final.
#[derive(Debug, Default)]
pub(crate) struct ProgressSender(ProgressReceiver);

/// Followers are equal if they follow the same write.
impl PartialEq for ProgressReceiver {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

impl Eq for ProgressReceiver {}

impl ProgressReceiver {
    fn lock(&self) -> MutexGuard<'_, ProgressCell> {
        // A panic cannot leave the state inconsistent.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what the end is waited for with.
    pub(super) fn wait_with(&mut self, pulse: &Pulse) {
        self.pulse = Some(pulse.clone());
    }

    pub(crate) fn now(&self) -> Progress {
        self.lock().progress.clone()
    }

    /// The state at the end, or as it is when nobody polls the swarm any more.
    pub(crate) async fn end(&self) -> Progress {
        let mut wait = self.pulse.as_ref().map(Wait::new);
        poll_fn(|cx| {
            let mut shared = self.lock();
            if shared.progress.is_over {
                return Poll::Ready(shared.progress.clone());
            }
            if !shared.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                shared.waiting.push(cx.waker().clone());
            }
            match wait.as_mut().map(|wait| wait.poll(cx)) {
                Some(Poll::Ready(NotPolled)) => Poll::Ready(shared.progress.clone()),
                Some(Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }
}

impl ProgressSender {
    pub(crate) fn receiver(&self) -> ProgressReceiver {
        self.0.clone()
    }

    /// Sets the state at a peer.
    pub(crate) fn set(&self, peer: PeerId, state: ReplicaState) {
        self.0.lock().progress.replicas.insert(peer, state);
    }
}

impl Drop for ProgressSender {
    fn drop(&mut self) {
        let waiting = {
            let mut shared = self.0.lock();
            shared.progress.is_over = true;
            // Whose answer was not awaited to the end has not answered.
            let states = shared.progress.replicas.values_mut();
            let sent = states.filter(|state| **state == ReplicaState::Sent);
            sent.for_each(|state| *state = ReplicaState::Silent);
            std::mem::take(&mut shared.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, executor::block_on};

    use super::*;

    #[test]
    fn progress_is_visible_now_and_at_the_end() {
        let (sender, peer) = (ProgressSender::default(), PeerId::random());
        let receiver = sender.receiver();
        let unheard = PeerId::random();
        for peer in [peer, unheard] {
            sender.set(peer, ReplicaState::Sent);
        }
        assert!(receiver.end().now_or_never().is_none());
        assert_eq!(receiver.now().peers(ReplicaState::Sent).count(), 2);
        sender.set(peer, ReplicaState::Acknowledged);
        let waiting = std::thread::spawn({
            let receiver = receiver.clone();
            move || block_on(receiver.end())
        });
        drop(sender);
        let end = waiting.join().unwrap();
        assert!(end.is_over);
        assert_eq!(end, receiver.now());
        assert_eq!(end.peers(ReplicaState::Acknowledged).collect::<Vec<_>>(), [peer]);
        assert_eq!(end.peers(ReplicaState::Silent).collect::<Vec<_>>(), [unheard]);
    }
}
