//! What a signer knows of what it has signed before, and the dates of what it signs next.
//!
//! **Invariants.** The clock grows with everything that is signed. What is signed is retained at least as long as everything
//! before it. No clock is given out that replicas would take for the future.
//!
//! **Spec.** `docs/design.md`, section "Signing".

use std::time::Duration;

use super::{
    limits::{Limit, LimitExceeded},
    seq::Seq,
};
use crate::time::Timestamp;

/// No withdrawal is retained for less: the shortest lifetime that Kademlia carries, in whole seconds.
const SHORTEST_WITHDRAWAL: Duration = Duration::from_secs(1);

/// What a signer knows of what it has signed before.
///
/// A new one knows nothing, so what is signed next is retained for as long as anything earlier could be: `max_ttl` from
/// then on. It has to outlive what it hides or withdraws, or that comes back.
///
/// [`learn`](Self::learn) adds what a partial reading has shown. After a complete one, [`complete`](Self::complete) says that
/// there was no more, and nothing is retained for longer than it has to be. What is [signed](Self::signed) outlives all that
/// there was, so the history is complete from then on.
///
/// ```
/// use std::time::Duration;
/// use smart_record_core::{SigningHistory, Timestamp};
///
/// let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
/// let mut history = SigningHistory::new(48 * hour, 5 * minute);
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let seq = history.next(now)?;
/// assert_eq!(history.retain_until(seq), now.saturating_add(48 * hour));
///
/// history.complete();
/// history.signed(seq, now.saturating_add(hour));
/// let next = history.next(now)?;
/// assert!(next > seq);
/// assert_eq!(history.retain_until(next), now.saturating_add(hour));
/// # Ok::<(), smart_record_core::LimitExceeded>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningHistory {
    max_ttl: Duration,
    max_clock_skew: Duration,
    last: Option<Seq>,
    /// The latest `retain_until` of what is known.
    retain_until: Timestamp,
    /// Whether nothing else can be retained for longer.
    is_complete: bool,
}

impl SigningHistory {
    /// A history of which nothing is known. Replicas retain nothing for longer than `max_ttl` after its clock, and refuse a
    /// clock that is more than `max_clock_skew` ahead of theirs.
    pub const fn new(max_ttl: Duration, max_clock_skew: Duration) -> Self {
        let retain_until = Timestamp::EPOCH;
        Self { max_ttl, max_clock_skew, last: None, retain_until, is_complete: false }
    }

    /// Takes note of something that was signed earlier. There may have been more.
    pub fn learn(&mut self, seq: Seq, retain_until: Timestamp) {
        self.last = self.last.max(Some(seq));
        self.retain_until = self.retain_until.max(retain_until);
    }

    /// Takes what was learnt for all that was signed.
    pub const fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Takes note of what is signed now, with a clock from [`next`](Self::next), and retained no shorter than
    /// [`retain_until`](Self::retain_until) says.
    pub fn signed(&mut self, seq: Seq, retain_until: Timestamp) {
        self.learn(seq, retain_until);
        self.complete();
    }

    /// The clock of what is signed next: after all that is known, and not before `now`.
    ///
    /// # Errors
    /// [`Limit::CLOCK_SKEW`] if replicas would take it for the future, because something was signed with a clock that was far
    /// ahead of this one. To go on, that has to be forgotten: a signer does with [`forget`](Self::forget).
    pub fn next(&self, now: Timestamp) -> Result<Seq, LimitExceeded> {
        let seq = Seq::next(self.last, now);
        let (lead, max) = (seq.issued_at().saturating_since(now), self.max_clock_skew);
        if lead > max {
            return Err(LimitExceeded::of_duration(Limit::CLOCK_SKEW, lead, max));
        }
        Ok(seq)
    }

    /// Whether [`next`](Self::next) fails at `now`.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.next(now).is_err()
    }

    /// The last clock that replicas take at `now`.
    pub fn latest(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.max_clock_skew)
    }

    /// Until when something with this clock is retained at least, so that it outlives all that was signed before.
    pub fn retain_until(&self, seq: Seq) -> Timestamp {
        match self.is_complete {
            true => self.retain_until,
            false => self.retain_until.max(self.longest(seq)),
        }
    }

    /// Until when a withdrawal with this clock is retained: as long as anything that it hides, and a second at least.
    /// So the withdrawal of what is known completely is gone with what it hides, and of what is not known completely
    /// after `max_ttl`.
    pub fn retain_withdrawal_until(&self, seq: Seq) -> Timestamp {
        let shortest = seq.issued_at().saturating_add(SHORTEST_WITHDRAWAL).min(self.longest(seq));
        self.retain_until(seq).max(shortest)
    }

    /// Until when something with this clock can be retained at most.
    fn longest(&self, seq: Seq) -> Timestamp {
        seq.issued_at().saturating_add(self.max_ttl)
    }

    /// Forgets everything: there may have been anything.
    pub const fn forget(&mut self) {
        *self = Self::new(self.max_ttl, self.max_clock_skew);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn history() -> SigningHistory {
        SigningHistory::new(48 * HOUR, 5 * MINUTE)
    }

    fn at(now: Timestamp) -> Seq {
        Seq::next(None, now)
    }

    #[test]
    fn what_is_not_known_could_be_retained_for_the_longest_time_there_is() {
        let mut history = history();
        let seq = history.next(NOW).unwrap();
        assert_eq!(seq, at(NOW));
        let longest = NOW.saturating_add(48 * HOUR);
        assert_eq!(history.retain_until(seq), longest);
        // A part of it tells nothing of the rest; a longer life than there can be from now on counts.
        history.learn(at(NOW), NOW.saturating_add(HOUR));
        assert_eq!(history.retain_until(seq), longest);
        history.learn(at(NOW), longest.saturating_add(MINUTE));
        assert_eq!(history.retain_until(seq), longest.saturating_add(MINUTE));
    }

    #[test]
    fn of_a_complete_history_what_is_known_counts() {
        let mut history = history();
        history.complete();
        assert_eq!(history.retain_until(at(NOW)), Timestamp::EPOCH);
        history.learn(at(NOW), NOW.saturating_add(HOUR));
        let seq = history.next(NOW).unwrap();
        assert!(seq > at(NOW));
        assert_eq!(history.retain_until(seq), NOW.saturating_add(HOUR));
    }

    #[test]
    fn what_is_signed_outlives_all_before_it() {
        let mut history = history();
        let seq = history.next(NOW).unwrap();
        let retain_until = history.retain_until(seq);
        history.signed(seq, retain_until);
        let later = NOW.saturating_add(HOUR);
        assert_eq!(history.retain_until(history.next(later).unwrap()), retain_until);
    }

    #[test]
    fn no_clock_is_given_out_that_replicas_would_take_for_the_future() {
        let mut history = history();
        history.learn(at(history.latest(NOW)), NOW);
        assert!(!history.is_ahead(NOW));
        let just_before = NOW.saturating_sub(Duration::from_millis(1));
        let refused = history.next(just_before).unwrap_err();
        assert_eq!(refused.limit, Limit::CLOCK_SKEW);
        history.forget();
        assert_eq!(history.next(just_before), Ok(at(just_before)));
        let seq = at(just_before);
        assert_eq!(history.retain_until(seq), history.longest(seq));
    }

    #[test]
    fn case_28_a_withdrawal_is_retained_for_as_long_as_what_it_hides() {
        let mut history = history();
        let seq = history.next(NOW).unwrap();
        let longest = NOW.saturating_add(48 * HOUR);
        assert_eq!(history.retain_withdrawal_until(seq), longest, "nothing is known");
        history.learn(seq, NOW.saturating_add(HOUR));
        assert_eq!(history.retain_withdrawal_until(seq), longest, "not everything is known");
        history.complete();
        assert_eq!(history.retain_withdrawal_until(seq), NOW.saturating_add(HOUR));
        // When all of it is gone, there is nothing to hide; but it can be sent.
        let seq = history.next(NOW.saturating_add(2 * HOUR)).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(
            history.retain_withdrawal_until(seq),
            NOW.saturating_add(2 * HOUR).saturating_add(second)
        );
        // Nothing is retained for longer than replicas take.
        let history = SigningHistory::new(second / 2, second);
        assert_eq!(history.retain_withdrawal_until(seq), history.longest(seq));
    }
}
