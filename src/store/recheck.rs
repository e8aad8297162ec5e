//! Rows that an earlier process has written, and that the rules of today may refuse.
//!
//! **Invariants.** What passes would be admitted now, except that its time is left out of account: what has
//! expired is hidden by whoever reads it, and what seems to come from the future was admitted when the clock
//! stood there. What does not pass is removed, its record's head and tallies with it, and told.
//!
//! **Spec.** `docs/design.md`, section "On disk".

use std::{collections::BTreeMap, sync::Arc};

use libp2p_identity::PeerId;

use super::{
    SmartRecordStore,
    event::StoreEvent,
    room::Plan,
    rows,
    storage::{
        Part, PartId, RecordId, Rejected, RowCheck, RowFault, SpaceId, Storage, StorageError,
        Verdict,
    },
};
use crate::{
    clock::Clock,
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Head, head::Body},
    },
    record::{Limit, LimitExceeded},
    validator::{MergedSpace, Refusals, SmartRecordValidator, ValidationError, Validator},
};

/// The rules of the store that has the storage.
pub(super) struct Rules {
    pub(super) local: PeerId,
    pub(super) validator: Arc<dyn Validator>,
    pub(super) clock: Arc<dyn Clock>,
}

impl RowCheck for Rules {
    fn check(&self, id: &PartId, part: &Part<'_>, head: Option<&Part<'_>>) -> Verdict {
        let checked = if id.space == SpaceId::HEAD {
            self.check_head(id.record, part).map(|()| None)
        } else {
            self.check_space(id, part, head)
        };
        match checked {
            Ok(None) => Verdict::Good,
            Ok(Some((rest, fault))) => Verdict::Partly(rest, fault),
            Err(fault) => Verdict::Bad(fault),
        }
    }
}

/// What is good of a row, and what is wrong with the rest.
type Rest = Option<(Part<'static>, RowFault)>;

impl From<StorageError> for RowFault {
    fn from(_: StorageError) -> Self {
        Self::Damaged
    }
}

impl Rules {
    fn check_head(&self, id: RecordId, part: &Part<'_>) -> Result<(), RowFault> {
        let (key, body) = self.read_head(id, part)?;
        let rules = self.validator.smart_record(&key);
        match (body, rules) {
            (Body::Board(_), Some(rules)) => {
                Ok(rules.limits().check_key(&key).map_err(ValidationError::from)?)
            }
            (Body::Value(stored), None) => {
                let now = self.clock.now();
                match self.validator.validate(&key, &stored.value, now) {
                    // It is hidden by its row's expiry, and may have to be remembered.
                    Err(ValidationError::Expired { .. })
                        if part.expires_at.is_some_and(|at| at <= now) =>
                    {
                        Ok(())
                    }
                    Err(ValidationError::LimitExceeded(LimitExceeded {
                        limit: Limit::ClockSkew,
                        ..
                    }))
                    | Ok(_) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            _ => Err(of_another_kind().into()),
        }
    }

    fn check_space(
        &self,
        id: &PartId,
        part: &Part<'_>,
        head: Option<&Part<'_>>,
    ) -> Result<Rest, RowFault> {
        // Without the key nothing can be said about a signature.
        let (key, _) = self.read_head(id.record, head.ok_or(RowFault::Damaged)?)?;
        let rules = self.validator.smart_record(&key).ok_or_else(of_another_kind)?;
        let stored = rows::decode_space(part)?;
        let count = stored.updates.len();
        let (rest, space_id, refused) = self.readmit(rules, &key, stored)?;
        if space_id != id.space {
            return Err(RowFault::Damaged);
        }
        match (rest, refused) {
            (Some((_, admitted)), None) if admitted == count => Ok(None),
            // Without a refusal, newer updates leave less room than they did.
            (Some((rest, _)), refused) => {
                Ok(Some((rest, refused.unwrap_or(ValidationError::Stale).into())))
            }
            (None, Some(reason)) => Err(reason.into()),
            (None, None) => Err(RowFault::Damaged),
        }
    }

    /// What would be admitted of a space, with the number of its updates; the space's id; and the first reason
    /// why something would not.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn readmit(
        &self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        stored: wire::Space,
    ) -> Result<(Option<(Part<'static>, usize)>, SpaceId, Option<ValidationError>), RowFault> {
        let mut refusals = Refusals::default();
        let spaces = BTreeMap::from([(stored.public_key, stored.updates)]);
        let admitted = rules.admit_writers(key, spaces, &mut refusals).pop();
        let Some((writer, updates)) = admitted else {
            return Err(refusals.first().cloned().map_or(RowFault::Damaged, RowFault::Invalid));
        };
        let nothing = wire::Space::default();
        let MergedSpace { space, .. } = rules
            .merge_space(key, &writer, updates, &nothing, None, &mut refusals)
            .map_err(|_| RowFault::Damaged)?;
        let rest = space
            .filter(|space| !space.is_empty())
            .map(|space| (rows::space_part(&space, &writer), space.updates().len()));
        Ok((rest, SpaceId(writer.rank(key)), refusals.first().cloned()))
    }

    /// The key and the body of a head, if it is that of this record.
    fn read_head(&self, id: RecordId, part: &Part<'_>) -> Result<(RecordKey, Body), RowFault> {
        let Head { key, body } = rows::decode_head(part)?;
        let key = RecordKey::new(key);
        match body {
            Some(body) if RecordId::new(&self.local, &key) == id => Ok((key, body)),
            _ => Err(RowFault::Damaged),
        }
    }
}

impl<S: Storage> SmartRecordStore<S> {
    /// Removes the rows that the storage has found to be bad.
    pub(super) fn discard_rejected(&mut self) -> Result<(), StorageError> {
        for rejected in self.storage.take_rejected() {
            self.discard(rejected)?;
        }
        Ok(())
    }

    fn discard(&mut self, rejected: Rejected) -> Result<(), StorageError> {
        let Rejected { id, part, bytes, fault, rest } = rejected;
        let key = if id.space == SpaceId::HEAD {
            let head = part.as_ref().and_then(|part| rows::decode_head(part).ok());
            let (key, payers) = self.head_payers(head);
            let mut plan = Plan::default();
            match rest {
                Some(rest) => plan.set(id, rest, Some((bytes, payers)), payers),
                None => plan.remove(id, bytes, payers),
            }
            self.apply(plan)?;
            key
        } else {
            let head = self.storage.get(&id.record.head())?;
            let head = head.and_then(|head| rows::decode_head(&head).ok());
            let writer = part.as_ref().and_then(rows::peer_of);
            self.replace_space(id, bytes, writer, rest)?;
            head.map(|head| RecordKey::new(head.key))
        };
        self.emit(&StoreEvent::Discarded { key, fault });
        Ok(())
    }
}

/// The namespace held something else, or nothing is known about it.
fn of_another_kind() -> ValidationError {
    ValidationError::Unsupported("the namespace is of another kind now".to_owned())
}
