//! What becomes of a client's write after its call has returned.
//!
//! Kademlia acknowledges a record before it is checked, and acknowledges what it refuses. So some of
//! the peers that have acknowledged a write are asked for it.
//!
//! **Invariants.** Each peer is asked at most twice. The client learns of each change in order.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Writes".

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{Namespace, RecordKey, ValidationError};
use smart_record_lookup::{Place, RequestId};

use super::{
    env::Env,
    network::{OperationId, RequestOutcome},
};
use crate::{
    client::{PublicationContent, ReplicaState, Teller},
    outbound::Request,
    query::{Delivery, JoinedAnswers, Said, contains},
};

/// Number of peers that are asked whether they show a write.
const CHECKED: usize = 2;
/// When they are asked first, and again if they do not show it. A replica stores what it takes at
/// once, or after a check off the task; a second is much longer than that.
const FIRST_CHECK: Duration = Duration::from_millis(100);
const SECOND_CHECK: Duration = Duration::from_secs(1);

/// What a client learns of its write.
#[derive(Debug)]
pub(super) struct FollowUp {
    teller: Teller,
    content: PublicationContent,
    /// How many more peers are to be asked back, once the call has returned.
    unchecked: usize,
    /// Requests to be made later.
    checks: Vec<Check>,
    /// Requests to be made as soon as there is room.
    due: Vec<Check>,
    /// Requests under way.
    checking: BTreeMap<RequestId, Check>,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    peer: PeerId,
    at: Duration,
    is_second: bool,
}

impl FollowUp {
    pub(super) fn new(teller: Teller, content: PublicationContent) -> Self {
        let (checks, due) = (Vec::new(), Vec::new());
        Self { teller, content, unchecked: 0, checks, due, checking: BTreeMap::new() }
    }

    /// The write has come to this at these peers.
    pub(super) fn tell(&self, peers: impl IntoIterator<Item = PeerId>, state: ReplicaState) {
        peers.into_iter().for_each(|peer| self.teller.tell(peer, state));
    }

    /// The call returns now; these peers have acknowledged the write, the closest first.
    pub(super) fn begin(&mut self, peers: &[PeerId], now: Duration) {
        self.unchecked = CHECKED;
        peers.iter().for_each(|peer| self.on_acknowledged(*peer, now));
    }

    /// A peer has acknowledged the write. It is asked back if the call has returned and not enough
    /// others are.
    pub(super) fn on_acknowledged(&mut self, peer: PeerId, now: Duration) {
        if let Some(left) = self.unchecked.checked_sub(1) {
            self.unchecked = left;
            let at = now.saturating_add(FIRST_CHECK);
            self.checks.push(Check { peer, at, is_second: false });
        }
    }

    /// Asks the peers whose time has come.
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

    /// Whether a request is one of these.
    pub(super) fn is_asking(&self, request: RequestId) -> bool {
        self.checking.contains_key(&request)
    }

    /// Records the outcome of a request.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        delivery: &Delivery,
        request: RequestId,
        outcome: RequestOutcome,
    ) {
        if matches!(outcome, RequestOutcome::Late) {
            // It is awaited as any other.
            return;
        }
        let Some(Check { peer, at, is_second }) = self.checking.remove(&request) else {
            return;
        };
        let state = match outcome {
            RequestOutcome::Answered(answer) => {
                let said = said(env, delivery.key(), answer.record.map(|record| record.value));
                let state = shown(env, delivery.key(), &self.content, &said);
                if let Ok(Said::Record(said)) = said
                    && state == ReplicaState::Shown
                    && delivery.has_more(&peer, &said)
                {
                    env.holders.on_joined(peer);
                }
                state
            }
            RequestOutcome::Failed(_) | RequestOutcome::Silent | RequestOutcome::Late => {
                ReplicaState::Silent
            }
        };
        tracing::trace!(%peer, ?state, "was asked back");
        if state == ReplicaState::NotShown && !is_second {
            let at = at.saturating_add(SECOND_CHECK.saturating_sub(FIRST_CHECK));
            self.checks.push(Check { peer, at, is_second: true });
        } else {
            self.teller.tell(peer, state);
        }
    }

    /// Whether somebody is to be asked as soon as there is room.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// When the next peer is to be asked. Those that wait for room have no time of their own.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.checks.iter().map(|check| check.at).min()
    }

    /// Whether nobody is to be asked, or has still to answer.
    pub(super) fn is_over(&self) -> bool {
        self.checks.is_empty() && self.due.is_empty() && self.checking.is_empty()
    }
}

/// What is good of an answer.
fn said(env: &Env, key: &RecordKey, value: Option<Bytes>) -> Result<Said, ValidationError> {
    JoinedAnswers::new(&env.registry, key)?.check(key, value.unwrap_or_default(), env.now())
}

/// Whether an answer shows what was written.
fn shown(
    env: &Env,
    key: &RecordKey,
    content: &PublicationContent,
    said: &Result<Said, ValidationError>,
) -> ReplicaState {
    match (said, content) {
        (Ok(Said::Record(said)), PublicationContent::Update(update)) => {
            let space = said.spaces().find(|(writer, _)| writer.peer_id() == env.local);
            match space {
                Some((_, space)) if space.get(update.position).is_some() => ReplicaState::Shown,
                Some((_, space)) if space.newest() > Some(update.position) => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        (Ok(Said::Record(said)), PublicationContent::Record(record)) if contains(said, record) => {
            ReplicaState::Shown
        }
        (Ok(Said::Value(said)), PublicationContent::Value(value)) => {
            let has_it = match env.registry.resolve(key) {
                Ok(Namespace::Value(validator)) => {
                    said == value || validator.contains(key, said, value)
                }
                _ => false,
            };
            let best = env.registry.consolidate(key, &[value, said]);
            match best {
                _ if has_it => ReplicaState::Shown,
                Ok(best) if best == *said => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        _ => ReplicaState::NotShown,
    }
}
