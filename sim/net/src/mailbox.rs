//! A queue of items of which each arrives at its time.

use std::{
    collections::VecDeque,
    fmt::Debug,
    task::{Context, Poll, Waker},
    time::Duration,
};

use smart_record_sim_clock::{self as clock, Timer};

/// A queue whose reader sees each item when it arrives. Items arrive in the order in which they
/// were sent.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    items: VecDeque<(Duration, T)>,
    reader: Option<Waker>,
    timer: Option<Timer>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), reader: None, timer: None }
    }
}

impl<T> Mailbox<T> {
    /// Adds an item that arrives at this monotonic time, or after the last one if that is later.
    pub(crate) fn send(&mut self, at: Duration, item: T) {
        let at = self.items.back().map_or(at, |(last, _)| at.max(*last));
        let is_first = self.items.is_empty();
        self.items.push_back((at, item));
        if is_first {
            self.wait(at);
        }
    }

    /// Wakes the reader at this time.
    fn wait(&mut self, at: Duration) {
        let Some(reader) = &self.reader else { return };
        let mut timer = Timer::at(at);
        if timer.poll(reader) {
            reader.wake_by_ref();
        } else {
            self.timer = Some(timer);
        }
    }

    /// The next item, if it has arrived.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<&mut T> {
        let now = clock::now();
        match self.items.front() {
            Some((at, _)) if *at <= now => {}
            next => {
                let next = next.map(|(at, _)| *at);
                if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                    self.reader = Some(cx.waker().clone());
                    self.timer = None;
                }
                if let Some(at) = next.filter(|_| self.timer.is_none()) {
                    self.wait(at);
                }
                return Poll::Pending;
            }
        }
        self.timer = None;
        match self.items.front_mut() {
            Some((_, item)) => Poll::Ready(item),
            None => Poll::Pending,
        }
    }

    /// Takes the next item, which [`poll`](Self::poll) has shown.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop_front().map(|(_, item)| item)
    }
}
