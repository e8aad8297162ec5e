//! Refused answers of a read.
//!
//! **Invariants.** Pure. There is at least one answer.

use std::fmt;

use libp2p_identity::PeerId;
use smart_record_core::{Fault, ValidationError};

/// Maximum number of reasons in the text.
const REASONS: usize = 3;

/// The answers of a read that were refused, with the reasons. `P` is what gave the answer.
///
/// As an error, it says that nothing valid was found, so that what is under the key is unknown. If
/// more peers answer that they have no record than give answers that are refused, there is nothing,
/// which is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAnswers<P = PeerId>(Vec<(P, ValidationError)>);

impl<P> RefusedAnswers<P> {
    /// All of these answers, if there are any.
    pub(crate) fn all(refused: impl IntoIterator<Item = (P, ValidationError)>) -> Option<Self> {
        Self::decisive(refused, 0)
    }

    /// The refused answers of a read without valid ones. `None` if there are none, or if more peers
    /// (`empty`) have answered that they have no record.
    pub(crate) fn decisive(
        refused: impl IntoIterator<Item = (P, ValidationError)>,
        empty: usize,
    ) -> Option<Self> {
        let refused: Vec<_> = refused.into_iter().collect();
        (!refused.is_empty() && refused.len() >= empty).then_some(Self(refused))
    }

    /// The answers, with the reasons.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(P, ValidationError)> {
        self.0.iter()
    }

    /// The class of the first refusal.
    pub fn fault(&self) -> Option<Fault> {
        self.0.first().map(|(_, reason)| reason.fault())
    }

    /// Whether half of the answers or more were signed too far ahead of this node's clock. Then the
    /// clock may be wrong.
    pub fn is_ahead_of_clock(&self) -> bool {
        let ahead = self.0.iter().filter(|(_, reason)| reason.is_ahead_of_clock()).count();
        ahead.saturating_mul(2) >= self.0.len()
    }

    /// Whether all answers have expired, so that there is nothing valid.
    pub fn have_expired(&self) -> bool {
        self.0.iter().all(|(_, reason)| reason.fault() == Fault::Expired)
    }
}

impl<P> IntoIterator for RefusedAnswers<P> {
    type Item = (P, ValidationError);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<P> fmt::Display for RefusedAnswers<P> {
    /// Names the first reason of each class.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 answer was refused")?,
            answers => write!(f, "{answers} answers were refused")?,
        }
        let mut told = Vec::new();
        for (_, reason) in &self.0 {
            let class = (reason.fault(), reason.is_ahead_of_clock());
            if told.len() < REASONS && !told.contains(&class) {
                f.write_str(if told.is_empty() { ": " } else { "; " })?;
                match reason.lead() {
                    Some(lead) => write!(f, "signed {} s ahead of this clock", lead.as_secs())?,
                    None => write!(f, "{reason}")?,
                }
                told.push(class);
            }
        }
        Ok(())
    }
}

impl<P: fmt::Debug> std::error::Error for RefusedAnswers<P> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use smart_record_core::{Limit, LimitExceeded, Timestamp};

    use super::*;

    fn refused(reasons: &[ValidationError]) -> RefusedAnswers {
        let answers = reasons.iter().map(|reason| (PeerId::random(), reason.clone()));
        RefusedAnswers::decisive(answers, 0).unwrap()
    }

    #[test]
    fn case_15_each_class_of_reasons_is_told_once() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let ahead = |lead| {
            ValidationError::from(LimitExceeded::of_duration(Limit::CLOCK_SKEW, lead, minutes(5)))
        };
        let expired = ValidationError::Expired { expired_at: Timestamp::EPOCH };
        let forged = ValidationError::Invalid("forged".to_owned());
        let clock = refused(&[ahead(minutes(10)), ahead(minutes(11)), expired.clone()]);
        assert_eq!(
            clock.to_string(),
            "3 answers were refused: signed 600 s ahead of this clock; \
             expired at 1970-01-01T00:00:00.000Z"
        );
        assert!(clock.is_ahead_of_clock() && !clock.have_expired());
        assert_eq!(clock.fault(), Some(Fault::LimitExceeded));
        let one = refused(std::slice::from_ref(&forged));
        assert_eq!(one.to_string(), "1 answer was refused: invalid: forged");
        assert!(!one.is_ahead_of_clock());
        assert!(refused(&[expired.clone(), expired]).have_expired());
    }

    #[test]
    fn more_peers_without_a_record_than_refused_answers_say_that_there_is_nothing() {
        let answers = || [(PeerId::random(), ValidationError::Stale)];
        assert!(RefusedAnswers::decisive(answers(), 1).is_some());
        assert_eq!(RefusedAnswers::decisive(answers(), 2), None);
        assert_eq!(RefusedAnswers::<PeerId>::decisive([], 0), None);
    }
}
