//! Verifying the signatures of several updates together, before they are admitted one by one.
//!
//! **Invariants.** An update is verified here only if it would be verified alone, were all others
//! good: every cheaper check comes first, by the same rules at the same instant. What is found good
//! is marked for its key, its writer and the limits, so that [`SpaceRules::merge`] does not verify
//! it again for these. What is not marked gets its answer there. A batch is verified if the work
//! that is left allows all of it (see [`SignatureMemory`](crate::SignatureMemory)). The first batch
//! that fails, and the first signature of a wrong form, ends it for a value: forgeries cost one
//! batch more than they cost alone.
//!
//! **Spec.** `docs/design.md`, section "Signatures together".

use std::{cmp::Ordering, time::Duration};

use libp2p_identity::PeerId;

use super::{SpaceRules, ValidationError};
use crate::{
    ed25519::Equation,
    key::RecordKey,
    record::{
        Limits, PolicyRefusal, Purview, Space, UnverifiedSpace, UnverifiedUpdate, UpdateError,
        Writer, work_together,
    },
    signatures::{self, Unknown},
    time::Timestamp,
};

/// How many signatures are verified together at most: more than a packet of updates of 256 bytes
/// has. So many cost as much as some 24 alone, and more gain little.
const MOST: usize = 48;

/// What the updates of a space are checked against before their signatures.
pub(super) struct Terms<'a> {
    pub(super) peer: PeerId,
    limits: &'a Limits,
    min_work: u8,
    /// The rank of the space, if work is demanded.
    rank: [u8; 32],
    now: Option<Timestamp>,
}

/// Whether an update has to be verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Verify,
    /// The space has it.
    Known,
    /// Newer updates hide it or leave no room for it.
    NoRoom,
}

impl Terms<'_> {
    /// Every check of an update that needs neither the space nor the signature.
    pub(super) fn check(&self, update: &UnverifiedUpdate) -> Result<(), ValidationError> {
        let Self { limits, min_work, rank, now, .. } = self;
        now.map_or(Ok(()), |now| update.check_time(now, limits))
            .map_err(|error| self.refused(error))?;
        if *min_work > 0 {
            let got = update.work(rank);
            if got < *min_work {
                return Err(PolicyRefusal::TooLittleWork { got, min: *min_work }.into());
            }
        }
        Ok(())
    }

    pub(super) fn refused(&self, error: UpdateError) -> ValidationError {
        ValidationError::of_update(Box::new(self.peer), error)
    }
}

/// Newest first, so that updates that these hide or leave no room for are not verified.
pub(super) fn newest_first(a: &UnverifiedUpdate, b: &UnverifiedUpdate) -> Ordering {
    b.position().cmp(&a.position()).then_with(|| a.signature().cmp(b.signature()))
}

/// Whether an update has to be verified for a space.
pub(super) fn need_of(space: &Space, update: &UnverifiedUpdate, limits: &Limits) -> Need {
    let position = update.position();
    match space.get(position) {
        // The same update, with this or another signature. If the known signature is not greater,
        // it stays, and this one is not verified.
        Some(twin) if twin.signature() <= update.signature() => Need::Known,
        None if !space.has_room_for(update.kind(), position, limits) => Need::NoRoom,
        _ => Need::Verify,
    }
}

impl SpaceRules {
    /// The least number of signatures that are worth to be verified together.
    pub const LEAST_TOGETHER: usize = 3;

    pub(super) fn terms(
        &self,
        key: &RecordKey,
        writer: &Writer,
        now: Option<Timestamp>,
    ) -> Terms<'_> {
        let min_work = self.min_work(key);
        let rank = if min_work > 0 { writer.rank(key) } else { [0; 32] };
        Terms { peer: writer.peer_id(), limits: self.limits(), min_work, rank, now }
    }

    /// Verifies the signatures of incoming updates of several writers together, which takes half of
    /// the time. Those that are good are not verified again when the updates are
    /// [merged](Self::merge) into the spaces beside them, with the same `now`: under the same key,
    /// for the same writer, by rules with the same limits. Otherwise they are. Nothing is refused
    /// here.
    ///
    /// Only signatures of Ed25519 are verified, and only those that [`merge`](Self::merge) would
    /// verify. Fewer than [`LEAST_TOGETHER`](Self::LEAST_TOGETHER) are left to it. The work is
    /// counted; see [`SignatureMemory::during`](crate::SignatureMemory::during).
    pub fn verify_together(
        &self,
        key: &RecordKey,
        spaces: Vec<(&Writer, &Space, &mut UnverifiedSpace)>,
        now: Option<Timestamp>,
    ) {
        let count = spaces.iter().fold(0_usize, |sum, (.., it)| sum.saturating_add(it.len()));
        if count < Self::LEAST_TOGETHER {
            return;
        }
        let mut batch = Batch::default();
        for (writer, stored, updates) in spaces {
            let Some(public_key) = writer.ed25519() else {
                continue;
            };
            let terms = self.terms(key, writer, now);
            let limits = self.limits().clone();
            let purview = Purview { key: key.clone(), writer: writer.clone(), limits };
            let decoded = updates.decoded(stored, purview);
            let mut wanted: Vec<_> = decoded.filter(|it| terms.check(it).is_ok()).collect();
            wanted.sort_unstable_by(|a, b| newest_first(a, b));
            let mut space = stored.clone();
            for update in wanted {
                if need_of(&space, update, self.limits()) != Need::Verify {
                    continue;
                }
                space.insert(update.unchecked().clone());
                if !batch.take(key, writer, public_key, update) {
                    return batch.verify();
                }
            }
        }
        batch.verify();
    }
}

/// Signatures to be verified together.
#[derive(Default)]
struct Batch<'a> {
    taken: Vec<Taken<'a>>,
    /// The work of verifying them.
    work: Duration,
    has_failed: bool,
}

/// A signature that is not remembered as good, and the update that it belongs to.
struct Taken<'a> {
    public_key: &'a [u8; 32],
    message: Vec<u8>,
    unknown: Unknown,
    update: &'a mut UnverifiedUpdate,
}

impl<'a> Batch<'a> {
    /// Takes the signature of an update. Returns whether to go on.
    fn take(
        &mut self,
        key: &RecordKey,
        writer: &Writer,
        public_key: &'a [u8; 32],
        update: &'a mut UnverifiedUpdate,
    ) -> bool {
        let message = update.signed_bytes(key);
        let work = work_together(self.taken.len(), message.len()).saturating_add(self.work);
        if !signatures::allows(work.saturating_add(signatures::hashing(message.len()))) {
            return false;
        }
        let Some(unknown) = writer.claim(&message, update.signature()).unknown() else {
            update.set_good();
            return true;
        };
        self.work = work;
        self.taken.push(Taken { public_key, message, unknown, update });
        if self.taken.len() >= MOST {
            self.verify();
        }
        !self.has_failed
    }

    /// Verifies what was taken up to the first signature of a wrong form, and marks it if all of it
    /// is good. So few that nothing is gained are left.
    fn verify(&mut self) {
        self.work = Duration::ZERO;
        let taken = std::mem::take(&mut self.taken);
        if taken.len() < SpaceRules::LEAST_TOGETHER {
            return;
        }
        let (mut equations, mut rest) = (Vec::with_capacity(taken.len()), Vec::new());
        for Taken { public_key, message, unknown, update } in taken {
            signatures::spend(work_together(equations.len(), message.len()));
            let Some(equation) = Equation::new(public_key, &message, update.signature()) else {
                unknown.verified(false);
                self.has_failed = true;
                break;
            };
            equations.push(equation);
            rest.push((unknown, update));
        }
        if equations.len() < SpaceRules::LEAST_TOGETHER {
            return;
        }
        let all_hold = Equation::all_hold(&equations);
        for (unknown, update) in rest {
            unknown.verified(all_hold);
            if all_hold {
                update.set_good();
            }
        }
        self.has_failed |= !all_hold;
    }
}
