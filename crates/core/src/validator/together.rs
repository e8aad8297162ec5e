//! Verifying the signatures of several updates together, before they are admitted one by one.
//!
//! **Invariants.** An update is verified here only if it would be verified alone, were all others
//! good: every cheaper check comes first, by the same rules at the same instant. What is found good
//! is marked for its key, its writer and the limits, so that
//! [`SpaceRules::merge`](super::SpaceRules::merge) does not verify it again for these. What is not
//! marked gets its answer there. A batch is verified if the work that is left allows all of it (see
//! [`SignatureMemory`](crate::SignatureMemory)). The first batch that fails, and the first
//! signature of a wrong form, ends it for a value: forgeries cost one batch more than they cost
//! alone.
//!
//! **Spec.** `docs/design.md`, section "Signatures together".

use std::{cmp::Ordering, time::Duration};

use libp2p_identity::PeerId;

use super::ValidationError;
use crate::{
    ed25519::Equation,
    key::RecordKey,
    record::{Limits, PolicyRefusal, Space, UnverifiedUpdate, UpdateError, Writer, work_together},
    signatures::{self, Unknown},
    time::Timestamp,
};

/// How many signatures are verified together at most: more than a packet of updates of 256 bytes
/// has. So many cost as much as some 24 alone, and more gain little.
const MOST: usize = 48;

/// The least number of signatures that are worth to be verified together.
pub(super) const LEAST: usize = 3;

/// What the updates of a space are checked against before their signatures.
pub(super) struct Terms<'a> {
    pub(super) peer: PeerId,
    pub(super) limits: &'a Limits,
    pub(super) min_work: u8,
    /// The rank of the space, if work is demanded.
    pub(super) rank: [u8; 32],
    pub(super) now: Option<Timestamp>,
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

/// Signatures to be verified together.
#[derive(Default)]
pub(super) struct Batch<'a> {
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
    pub(super) fn take(
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
    pub(super) fn verify(&mut self) {
        self.work = Duration::ZERO;
        let taken = std::mem::take(&mut self.taken);
        if taken.len() < LEAST {
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
        if equations.len() < LEAST {
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
