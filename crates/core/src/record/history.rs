//! Signing history: the earlier updates that a signer knows, and the clock and retention of the
//! next one.
//!
//! **Invariants.** The clock grows with every update. An update is retained at least as long as
//! every earlier one. The history returns no clock that replicas would refuse as from the future.
//!
//! **Spec.** `docs/design.md`, section "Signing".

use std::time::Duration;

use super::{
    limits::{Limit, LimitExceeded},
    seq::Seq,
};
use crate::time::Timestamp;

/// The shortest retention of a withdrawal. Kademlia sends lifetimes in whole seconds.
const SHORTEST_WITHDRAWAL: Duration = Duration::from_secs(1);

/// The earlier updates that a signer knows.
///
/// A new history is empty, so the next update is retained for as long as any earlier one could be:
/// `max_ttl` from its clock. An update must outlive what it hides or withdraws; otherwise the
/// hidden content comes back.
///
/// [`learn`](Self::learn) adds an update from a partial reading. [`complete`](Self::complete)
/// states that the reading was complete, and updates are then retained no longer than necessary. A
/// [signed](Self::signed) update outlives all earlier ones, so the history is complete from then
/// on.
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
    /// The latest `retain_until` of the known updates.
    retain_until: Timestamp,
    /// Whether no unknown update can be retained for longer.
    is_complete: bool,
}

impl SigningHistory {
    /// An empty, incomplete history. Replicas retain an update for at most `max_ttl` after its
    /// clock, and refuse a clock that is more than `max_clock_skew` ahead of theirs.
    pub const fn new(max_ttl: Duration, max_clock_skew: Duration) -> Self {
        let retain_until = Timestamp::EPOCH;
        Self { max_ttl, max_clock_skew, last: None, retain_until, is_complete: false }
    }

    /// Adds an update signed earlier. There may be others.
    pub fn learn(&mut self, seq: Seq, retain_until: Timestamp) {
        self.last = self.last.max(Some(seq));
        self.retain_until = self.retain_until.max(retain_until);
    }

    /// Marks the history as complete: every update was learnt.
    pub const fn complete(&mut self) {
        self.is_complete = true;
    }

    /// Adds an update signed now. Its clock is from [`next`](Self::next), and its retention is at
    /// least [`retain_until`](Self::retain_until).
    pub fn signed(&mut self, seq: Seq, retain_until: Timestamp) {
        self.learn(seq, retain_until);
        self.complete();
    }

    /// The clock of the next update: after all known updates, and not before `now`.
    ///
    /// # Errors
    /// [`Limit::CLOCK_SKEW`] if replicas would refuse the clock as from the future, because an
    /// earlier update was signed with a clock far ahead of this one. Call [`forget`](Self::forget)
    /// to drop the earlier updates and sign again.
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

    /// The latest time of issue that replicas accept at `now`.
    pub fn latest(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.max_clock_skew)
    }

    /// The earliest `retain_until` for an update with this clock, so that it outlives all earlier
    /// ones.
    pub fn retain_until(&self, seq: Seq) -> Timestamp {
        match self.is_complete {
            true => self.retain_until,
            false => self.retain_until.max(self.longest(seq)),
        }
    }

    /// The `retain_until` of a withdrawal with this clock: as late as that of any update it hides,
    /// and at least a second away. With an incomplete history it is `max_ttl` away.
    pub fn retain_withdrawal_until(&self, seq: Seq) -> Timestamp {
        let shortest = seq.issued_at().saturating_add(SHORTEST_WITHDRAWAL).min(self.longest(seq));
        self.retain_until(seq).max(shortest)
    }

    /// The latest possible `retain_until` for an update with this clock.
    fn longest(&self, seq: Seq) -> Timestamp {
        seq.issued_at().saturating_add(self.max_ttl)
    }

    /// Forgets all updates. The history is incomplete again.
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
        // The history stays incomplete. A known `retain_until` later than the longest one counts.
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
        // Once all updates may be collected there is nothing to hide, but a withdrawal can still be
        // sent.
        let seq = history.next(NOW.saturating_add(2 * HOUR)).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(
            history.retain_withdrawal_until(seq),
            NOW.saturating_add(2 * HOUR).saturating_add(second)
        );
        // A withdrawal is retained for at most `max_ttl`.
        let history = SigningHistory::new(second / 2, second);
        assert_eq!(history.retain_withdrawal_until(seq), history.longest(seq));
    }
}
