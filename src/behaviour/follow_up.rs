//! Follow-up of a client's write after its call has returned.
//!
//! Kademlia acknowledges a record before it is checked, and acknowledges records that it refuses.
//! So a few of the peers that have acknowledged a write are asked for the record.
//!
//! **Invariants.** Each peer is asked at most twice. State changes are reported in order. Answers
//! are checked as those to reads are: by the worker, within a limit of work.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Writes".

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{AskerTag, Namespace, RecordKey, ValidationError};
use smart_record_lookup::{Place, RequestId};

use super::{
    env::Env,
    network::{OperationId, RequestOutcome},
    worker::{AnswerVerdict, PeerAnswer, Worker},
};
use crate::{
    client::{ProgressSender, PublicationContent, ReplicaState},
    outbound::Request,
    query::{CheckedAnswer, JoinedAnswers, contains},
};

/// Number of peers asked whether they show a write.
const CHECKED: usize = 2;
/// Delays of the first check and of the second, which is made if the first does not show the write.
/// A replica stores a record at once, or after a check off the task, which takes much less than a
/// second.
const FIRST_CHECK: Duration = Duration::from_millis(100);
const SECOND_CHECK: Duration = Duration::from_secs(1);

/// The follow-up of one write.
#[derive(Debug)]
pub(super) struct FollowUp {
    progress: ProgressSender,
    content: PublicationContent,
    /// Number of checks that may still be added once the call has returned.
    unscheduled: usize,
    /// Checks to be made later.
    checks: Vec<Check>,
    /// Checks that are due and wait for a free request slot.
    due: Vec<Check>,
    /// Checks under way.
    checking: BTreeMap<RequestId, Check>,
    /// Checks whose answers are with the worker.
    answered: BTreeMap<PeerId, Check>,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    peer: PeerId,
    at: Duration,
    is_second: bool,
}

impl FollowUp {
    pub(super) fn new(progress: ProgressSender, content: PublicationContent) -> Self {
        let (checks, due) = (Vec::new(), Vec::new());
        let (checking, answered) = (BTreeMap::new(), BTreeMap::new());
        Self { progress, content, unscheduled: 0, checks, due, checking, answered }
    }

    /// Reports the state of the write at these peers.
    pub(super) fn report(&self, peers: impl IntoIterator<Item = PeerId>, state: ReplicaState) {
        peers.into_iter().for_each(|peer| self.progress.set(peer, state));
    }

    /// Schedules the checks when the call returns. `peers` have acknowledged the write, closest
    /// first.
    pub(super) fn begin(&mut self, peers: &[PeerId], now: Duration) {
        self.unscheduled = CHECKED;
        peers.iter().for_each(|peer| self.on_acknowledged(*peer, now));
    }

    /// Records an acknowledgement. Schedules a check of the peer if the call has returned and too
    /// few checks are scheduled.
    pub(super) fn on_acknowledged(&mut self, peer: PeerId, now: Duration) {
        if let Some(left) = self.unscheduled.checked_sub(1) {
            self.unscheduled = left;
            let at = now.saturating_add(FIRST_CHECK);
            self.checks.push(Check { peer, at, is_second: false });
        }
    }

    /// Sends the checks that are due.
    pub(super) fn ask(&mut self, env: &mut Env, operation: OperationId, key: &RecordKey) {
        let Self { checks, due, checking, .. } = self;
        let now = env.net.now();
        due.extend(checks.extract_if(.., |check| check.at <= now));
        let place = Place::of_key(key.as_bytes());
        let request = Request::GetValue { key: Bytes::copy_from_slice(key.as_bytes()) };
        env.net.send(operation, |requests, _, now| {
            let check = due.remove(due.iter().position(|check| requests.has_room(&check.peer))?);
            let id = requests.begin(check.peer, place.distance_of(&check.peer), now)?;
            checking.insert(id, check);
            Some((id, check.peer, request.clone()))
        });
    }

    /// Whether a request is a check of this write.
    pub(super) fn is_asking(&self, request: RequestId) -> bool {
        self.checking.contains_key(&request)
    }

    /// Records the outcome of a request. An answer is given to the worker, if there is one.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        worker: Option<&mut Worker>,
        operation: OperationId,
        key: &RecordKey,
        request: RequestId,
        outcome: RequestOutcome,
    ) {
        if matches!(outcome, RequestOutcome::Late) {
            // A late answer still counts.
            return;
        }
        let Some(check) = self.checking.remove(&request) else {
            return;
        };
        let RequestOutcome::Answered(answer) = outcome else {
            // It has acknowledged the write all the same.
            return;
        };
        // The write would have been refused.
        let Ok(known) = JoinedAnswers::new(&env.registry, key) else {
            return;
        };
        let (peer, key_of) = (check.peer, key.clone());
        let value = answer.record.map(|record| record.value).unwrap_or_default();
        let answer = PeerAnswer { operation, peer, key: key_of, value, expires_at: None, known };
        self.answered.insert(peer, check);
        let signatures = env.kad.store_mut().signatures();
        if let Some(verdict) = answer.check(worker, &signatures, env.now()) {
            self.on_verdict(env, key, verdict);
        }
    }

    /// Records the verdict on an answer.
    pub(super) fn on_verdict(&mut self, env: &mut Env, key: &RecordKey, verdict: AnswerVerdict) {
        let AnswerVerdict { peer, answer, .. } = verdict;
        let Some(Check { at, is_second, .. }) = self.answered.remove(&peer) else {
            return;
        };
        let state = state_of(env, key, &self.content, answer.as_ref().map(|it| &it.shown));
        if let Some(asker) = answer.ok().and_then(|answer| answer.asker) {
            env.holders.on_shown(peer, asker == AskerTag::of(&env.local));
        }
        tracing::trace!(%peer, ?state, "checked for a write");
        if state == ReplicaState::NotShown && !is_second {
            let at = at.saturating_add(SECOND_CHECK.saturating_sub(FIRST_CHECK));
            self.checks.push(Check { peer, at, is_second: true });
        } else {
            self.progress.set(peer, state);
        }
    }

    /// Handles the end of the worker: its answers are lost. Returns whether it had some.
    pub(super) fn on_no_verdicts(&mut self) -> bool {
        !std::mem::take(&mut self.answered).is_empty()
    }

    /// Whether a check waits for a free request slot.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When the next check becomes due.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.checks.iter().map(|check| check.at).min()
    }

    /// Whether all checks are done.
    pub(super) fn is_over(&self) -> bool {
        let is_asked = self.checking.is_empty() && self.answered.is_empty();
        self.checks.is_empty() && self.due.is_empty() && is_asked
    }
}

/// The state of the write by the content of an answer.
fn state_of(
    env: &Env,
    key: &RecordKey,
    content: &PublicationContent,
    shown: Result<&CheckedAnswer, &ValidationError>,
) -> ReplicaState {
    match (shown, content) {
        (Ok(CheckedAnswer::Record(shown)), PublicationContent::Update(update)) => {
            let space = shown.spaces().find(|(writer, _)| writer.peer_id() == env.local);
            match space {
                Some((_, space)) if space.get(update.position).is_some() => ReplicaState::Shown,
                Some((_, space)) if space.newest() > Some(update.position) => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        (Ok(CheckedAnswer::Record(shown)), PublicationContent::Record(record))
            if contains(shown, record) =>
        {
            ReplicaState::Shown
        }
        (Ok(CheckedAnswer::Value(shown)), PublicationContent::Value(value)) => {
            let has_it = match env.registry.resolve(key) {
                Ok(Namespace::Value(validator)) => {
                    shown == value || validator.contains(key, shown, value)
                }
                _ => false,
            };
            let best = env.registry.consolidate(key, &[value, shown]);
            match best {
                _ if has_it => ReplicaState::Shown,
                Ok(best) if best == *shown => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        _ => ReplicaState::NotShown,
    }
}
