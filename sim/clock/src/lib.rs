//! Virtual time of a thread: what the clocks show, and timers.
//!
//! Time stands still while code runs. [`advance`] moves it to the next timer.
//!
//! **Invariants.** Time never goes back. Timers that are due at the same time fire in the order in
//! which they were made. Each thread has a time of its own; a simulation has one thread.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    mem,
    task::Waker,
    time::Duration,
};

/// Monotonic time at the start of a thread. Not zero: programs subtract from the current time.
const START: Duration = Duration::from_secs(1_000_000);

/// Wall-clock time at [`START`], since 1970: 1 January 2027.
const WALL_CLOCK_AT_START: Duration = Duration::from_secs(1_798_761_600);

#[derive(Debug)]
struct State {
    made: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(START) };
    static STATE: RefCell<State> =
        const { RefCell::new(State { made: 0, timers: BTreeMap::new() }) };
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(act)
}

/// Monotonic time.
pub fn now() -> Duration {
    NOW.get()
}

/// Time since the start.
pub fn elapsed() -> Duration {
    now().saturating_sub(START)
}

/// Wall-clock time since 1970, of a clock that is right.
pub fn wall_clock() -> Duration {
    WALL_CLOCK_AT_START.saturating_add(elapsed())
}

/// Moves time to the next timer, at most to `limit` (monotonic), and wakes the tasks whose timers
/// are due then. Returns whether there was a timer before the limit or at it.
pub fn advance(limit: Duration) -> bool {
    let (fires, due) = with(|state| {
        let next = state.timers.first_key_value().map(|(&(at, _), _)| at);
        let fires = next.is_some_and(|at| at <= limit);
        let until = next.filter(|_| fires).unwrap_or(limit);
        NOW.set(now().max(until));
        let mut due = Vec::new();
        while let Some(timer) = state.timers.first_entry().filter(|it| it.key().0 <= now()) {
            due.push(timer.remove());
        }
        (fires, due)
    });
    // Outside the borrow: a waker may be dropped here, and with it a task that has timers.
    due.into_iter().for_each(Waker::wake);
    fires
}

/// A timer. It holds the waker of the task that polled it last.
#[derive(Debug)]
pub struct Timer {
    at: Duration,
    number: u64,
    /// Whether it may be among the timers that wake somebody.
    waits: bool,
}

impl Timer {
    /// A timer that is due after this time.
    pub fn after(time: Duration) -> Self {
        Self::at(now().saturating_add(time))
    }

    /// A timer that is due at this monotonic time.
    pub fn at(at: Duration) -> Self {
        let number = with(|state| {
            state.made = state.made.saturating_add(1);
            state.made
        });
        Self { at, number, waits: false }
    }

    /// Whether it is due. If not, `waker` is woken when it is.
    pub fn poll(&mut self, waker: &Waker) -> bool {
        if now() >= self.at {
            return true;
        }
        self.waits = true;
        let replaced = with(|state| {
            let entry = state.timers.get_mut(&(self.at, self.number));
            match entry {
                Some(old) if old.will_wake(waker) => None,
                Some(old) => Some(mem::replace(old, waker.clone())),
                None => state.timers.insert((self.at, self.number), waker.clone()),
            }
        });
        drop(replaced);
        false
    }

    /// Makes it due after this time. The task that polled it last is woken then.
    pub fn reset(&mut self, time: Duration) {
        let waker = self.stop();
        *self = Self::after(time);
        if let Some(waker) = waker {
            self.poll(&waker);
        }
    }

    fn stop(&mut self) -> Option<Waker> {
        let waits = mem::take(&mut self.waits);
        waits.then(|| with(|state| state.timers.remove(&(self.at, self.number)))).flatten()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // While the thread ends there may be no time any more.
        if self.waits {
            let waker =
                STATE.try_with(|state| state.borrow_mut().timers.remove(&(self.at, self.number)));
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn time_moves_from_timer_to_timer_and_wakes_who_waits() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let woken = || count.0.load(Ordering::Relaxed);
        let second = Duration::from_secs(1);
        let begin = now();
        let mut first = Timer::after(second);
        let mut dropped = Timer::after(second);
        let mut moved = Timer::after(second);
        for timer in [&mut first, &mut dropped, &mut moved] {
            assert!(!timer.poll(&waker));
        }
        drop(dropped);
        moved.reset(3 * second);
        assert!(advance(begin + 10 * second));
        assert_eq!((now() - begin, woken()), (second, 1));
        assert!(first.poll(&waker) && !moved.poll(&waker));
        assert!(!advance(begin + 2 * second));
        assert_eq!((now() - begin, woken()), (2 * second, 1));
        assert!(advance(begin + 10 * second));
        assert_eq!((now() - begin, woken()), (3 * second, 2));
        assert!(moved.poll(&waker));
        assert!(!advance(begin + 4 * second));
    }
}
