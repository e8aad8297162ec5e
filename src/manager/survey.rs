//! What the answers to one question come to.
//!
//! **Invariants.** Pure: whoever answers what in which order, the best record is the same. An answer that is no
//! good record changes nothing but the list of those who gave one.

use std::{collections::HashMap, time::Duration};

use super::backend::{Answer, Found, Holder};
use smart_record_core::{RecordKey, Timestamp, ValidationError};
use smart_record_formats::signed::{SignedRecord, SignedRecordValidator};

/// What the answers to one question come to.
#[derive(Debug)]
pub(super) struct Survey {
    /// The best record, and when it expires.
    pub(super) best: Option<(SignedRecord, Option<Timestamp>)>,
    pub(super) refused: Vec<(Holder, ValidationError)>,
    pub(super) behind: Vec<Holder>,
    /// The time that is left to the best record, as those say who have it; `None` if one of them sets no end.
    lifetime: Option<Duration>,
}

impl Survey {
    pub(super) fn of(
        found: Found,
        rules: &SignedRecordValidator,
        key: &RecordKey,
        now: Timestamp,
    ) -> Self {
        // Most answers are the same: each value is checked once.
        let mut checked = HashMap::new();
        for Answer { value, .. } in &found.answers {
            checked.entry(value).or_insert_with(|| rules.admit(key, value, now));
        }
        let best = checked
            .values()
            .filter_map(|record| record.as_ref().ok())
            .max_by_key(|(record, _)| record.rank())
            .map(|(record, validity)| (record.clone(), validity.ends_at(now)));

        let mut refused = found.refused;
        let mut behind = Vec::new();
        let mut lifetime = Some(Duration::ZERO);
        for Answer { holder, value, lifetime: left } in &found.answers {
            match checked.get(value) {
                Some(Ok((record, _))) => {
                    let is_best = best
                        .as_ref()
                        .is_some_and(|(b, _)| b.rank().of_content() == record.rank().of_content());
                    if is_best {
                        lifetime = lifetime.zip(*left).map(|(a, b)| a.max(b));
                    } else {
                        behind.push(*holder);
                    }
                }
                Some(Err(error)) => refused.push((*holder, error.clone())),
                None => {}
            }
        }
        if best.is_some() {
            behind.extend(found.missing);
        }
        Self { best, refused, behind, lifetime }
    }

    pub(super) fn best_sequence(&self) -> Option<u64> {
        self.best.as_ref().map(|(record, _)| record.sequence())
    }

    /// How long a copy of the best record may be kept: as long as the others keep it, at most until it
    /// expires by its own word.
    pub(super) fn lifetime(&self, best: &SignedRecord, now: Timestamp) -> Option<Duration> {
        let signed = best.expires_at().map(|at| at.saturating_since(now));
        self.lifetime.into_iter().chain(signed).min()
    }
}
