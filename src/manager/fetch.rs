//! Evaluation of the answers to one fetch.
//!
//! **Invariants.** Pure. The best record does not depend on the order of the answers or on their
//! holders. An invalid answer only adds its holder to the refused ones.

use std::{collections::HashMap, time::Duration};

use super::backend::{BackendAnswers, HeldValue, Holder};
use smart_record_core::{RecordKey, Timestamp, ValidationError};
use smart_record_formats::signed::{SignedRecord, SignedRecordValidator};

/// Evaluation of the answers to one fetch.
#[derive(Debug)]
pub(super) struct FetchOutcome {
    /// The best record and its expiry.
    pub(super) best: Option<(SignedRecord, Option<Timestamp>)>,
    pub(super) refused: Vec<(Holder, ValidationError)>,
    pub(super) behind: Vec<Holder>,
    /// Number of other peers without a record.
    pub(super) missing: usize,
    /// Remaining lifetime of the best record, the longest that its holders state; `None` if one of
    /// them states no limit.
    lifetime: Option<Duration>,
}

impl FetchOutcome {
    pub(super) fn of(
        found: BackendAnswers,
        rules: &SignedRecordValidator,
        key: &RecordKey,
        now: Timestamp,
    ) -> Self {
        // Most answers are equal: each distinct value is validated once.
        let mut checked = HashMap::new();
        for HeldValue { value, .. } in &found.answers {
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
        for HeldValue { holder, value, lifetime: left } in &found.answers {
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
        let missing = found.missing.iter().filter(|holder| **holder != Holder::Local).count();
        if best.is_some() {
            behind.extend(found.missing);
        }
        Self { best, refused, behind, missing, lifetime }
    }

    pub(super) fn best_sequence(&self) -> Option<u64> {
        self.best.as_ref().map(|(record, _)| record.sequence())
    }

    /// Lifetime of a copy of the best record: as long as the other holders keep it, and at most
    /// until its signed expiry.
    pub(super) fn lifetime(&self, best: &SignedRecord, now: Timestamp) -> Option<Duration> {
        let signed = best.expires_at().map(|at| at.saturating_since(now));
        self.lifetime.into_iter().chain(signed).min()
    }
}
