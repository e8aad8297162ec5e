//! Timers in virtual time, in place of the crate of this name and version.

use std::{
    fmt::{self, Debug, Formatter},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use smart_record_sim_clock::Timer;

/// A future that is ready after a time.
pub struct Delay(Timer);

impl Delay {
    /// A delay of this length from now.
    pub fn new(dur: Duration) -> Self {
        Self(Timer::after(dur))
    }

    /// Begins anew with this length.
    pub fn reset(&mut self, dur: Duration) {
        self.0.reset(dur);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.poll(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Debug for Delay {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").finish()
    }
}
