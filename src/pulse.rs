//! Detection of a swarm that is not polled, for calls that wait for it.
//!
//! A call of a handle is answered by the task that polls the swarm. If the same task awaits the
//! call, nobody polls the swarm, and the call would wait for ever.
//!
//! **Invariants.** A waiting call wakes the task of the swarm, so an idle swarm counts as polled.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, task::AtomicWaker};
use futures_timer::Delay;

/// Longest timeout that a timer takes.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The polls of a swarm. Clones count the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<PulseInner>);

#[derive(Debug)]
struct PulseInner {
    polls: AtomicU64,
    /// The task that polls.
    task: AtomicWaker,
    timeout: Duration,
}

/// Nobody has polled the swarm for as long as a call waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotPolled;

impl Pulse {
    /// Calls wait for the next poll up to `timeout`; if that is zero, without end.
    pub(crate) fn new(timeout: Duration) -> Self {
        let timeout = if timeout.is_zero() { MAX_TIMEOUT } else { timeout.min(MAX_TIMEOUT) };
        let (polls, task) = (AtomicU64::new(0), AtomicWaker::new());
        Self(Arc::new(PulseInner { polls, task, timeout }))
    }

    /// Notes a poll by the task of `cx`.
    pub(crate) fn beat(&self, cx: &Context<'_>) {
        self.note();
        self.0.task.register(cx.waker());
    }

    /// Notes that the swarm was polled.
    pub(crate) fn note(&self) {
        self.0.polls.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for `answer` as long as the swarm is polled.
    pub(crate) async fn wait_for<T>(
        &self,
        answer: impl Future<Output = T>,
    ) -> Result<T, NotPolled> {
        let (mut answer, mut wait) = (pin!(answer), Wait::new(self));
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => wait.poll(cx).map(Err),
        })
        .await
    }

    fn polls(&self) -> u64 {
        self.0.polls.load(Ordering::Relaxed)
    }
}

/// A wait for something that needs the swarm to be polled.
#[derive(Debug)]
pub(crate) struct Wait {
    pulse: Pulse,
    /// The polls when the task was woken last.
    seen: u64,
    timer: Delay,
    /// How many times in a row the swarm may not be polled in time, and how many of them are left.
    pauses: [u8; 2],
}

impl Wait {
    pub(crate) fn new(pulse: &Pulse) -> Self {
        let seen = pulse.polls();
        pulse.0.task.wake();
        Self { pulse: pulse.clone(), seen, timer: Delay::new(pulse.0.timeout), pauses: [0; 2] }
    }

    /// A wait of a stream, which goes on after a pause: a handler of the application may be slow,
    /// or the process was stopped for a while.
    pub(crate) fn of_stream(pulse: &Pulse) -> Self {
        Self { pauses: [1; 2], ..Self::new(pulse) }
    }

    /// Ready if the swarm was not polled in time; of a stream, twice in a row.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<NotPolled> {
        loop {
            ready!(self.timer.poll_unpin(cx));
            let Pulse(inner) = &self.pulse;
            let polls = self.pulse.polls();
            // For a further poll that finds it out again.
            self.timer.reset(inner.timeout);
            let [allowed, left] = &mut self.pauses;
            if polls != self.seen {
                *left = *allowed;
            } else if let Some(fewer) = left.checked_sub(1) {
                *left = fewer;
                tracing::warn!("nobody polls the swarm; a stream waits for it once more");
            } else {
                return Poll::Ready(NotPolled);
            }
            self.seen = polls;
            inner.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{
        channel::oneshot,
        executor::block_on,
        future::{self, Either, select},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// A swarm with nothing to do: it is polled when it is woken.
    async fn idle(pulse: &Pulse) {
        poll_fn(|cx| {
            pulse.beat(cx);
            Poll::Pending
        })
        .await
    }

    #[test]
    fn a_call_waits_while_the_swarm_is_polled_and_no_longer() {
        let pulse = Pulse::new(SHORT);
        assert_eq!(block_on(pulse.wait_for(future::ready(1))), Ok(1));
        assert_eq!(block_on(pulse.wait_for(future::pending::<()>())), Err(NotPolled));

        let (answer, call) = oneshot::channel();
        let answers = async {
            Delay::new(SHORT * 4).await;
            answer.send(2).unwrap();
            future::pending::<()>().await
        };
        let polled = future::join(idle(&pulse), answers);
        match block_on(select(pin!(polled), pin!(pulse.wait_for(call)))) {
            Either::Right((answer, _)) => assert_eq!(answer, Ok(Ok(2))),
            Either::Left(_) => panic!("a swarm does not end"),
        }
        // The swarm still exists, and is not polled any more.
        assert_eq!(block_on(pulse.wait_for(future::pending::<()>())), Err(NotPolled));
    }

    #[test]
    fn a_stream_goes_on_after_a_pause_and_ends_after_two_in_a_row() {
        let pulse = Pulse::new(SHORT);
        let mut wait = Wait::of_stream(&pulse);
        let mut polls = |pauses: usize| {
            let mut left = pauses;
            // As a task that is woken by the timer alone.
            block_on(poll_fn(|cx| match wait.poll(cx) {
                Poll::Pending if left > 0 => {
                    left -= 1;
                    Poll::Pending
                }
                it => Poll::Ready(it),
            }))
        };
        assert_eq!(polls(1), Poll::Pending, "one pause");
        pulse.note();
        assert_eq!(polls(1), Poll::Pending, "it was polled");
        assert_eq!(polls(1), Poll::Pending, "another pause");
        assert_eq!(polls(1), Poll::Ready(NotPolled), "two of them");
    }

    #[test]
    fn a_timeout_of_zero_is_none() {
        let pulse = Pulse::new(Duration::ZERO);
        assert_eq!(pulse.wait_for(future::pending::<()>()).now_or_never(), None);
    }

    #[test]
    fn no_timeout_is_too_long_for_a_timer() {
        let pulse = Pulse::new(Duration::MAX);
        assert_eq!(pulse.wait_for(future::pending::<()>()).now_or_never(), None);
    }
}
