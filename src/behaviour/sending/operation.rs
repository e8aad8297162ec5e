//! A single send operation: determines its recipients, sends them the chunks, and checks some of
//! them for a client's write.
//!
//! **Invariants.** A client gets one reply.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_lookup as lookup;

use super::super::{
    env::Env,
    event::Event,
    follow_up::FollowUp,
    holders::Closest,
    network::{OperationId, RequestOutcome},
};
use crate::{
    client::{ClientError, Publication, ReplicaState, Reply},
    meter::Amount,
    outbound::{Record, Request},
    query::{Delivery, RecordPut},
};
use smart_record_core::{RecordKey, ValidationError};

/// Maximum duration of a send operation in the background, after the write has returned. A guess:
/// longer than the chunks of a large board take.
pub(super) const BACKGROUND: Duration = Duration::from_secs(30);

/// Purpose of a send operation.
pub(in crate::behaviour) enum SendPurpose {
    /// A client, which waits until then.
    Client(Reply<Publication>, Box<Publication>, Duration),
    Repair {
        is_client: bool,
    },
    Refresh,
    Replication,
    /// The client has got its result; the send operation goes on in the background.
    Returned,
}

/// Next step of a send operation.
pub(in crate::behaviour) enum Step {
    /// Read the key for this send operation.
    Read { id: u64, key: RecordKey, is_client: bool },
    /// An own record was sent, or a write whose client was told was acknowledged only then. A value
    /// counts as acknowledged if something better is there.
    Sent { key: RecordKey, is_acknowledged: bool },
    /// Reply to the client.
    Reply(Reply<Publication>, Result<Publication, ClientError>),
}

/// A send operation under way.
pub(super) struct Sending {
    pub(super) content: RecordPut,
    pub(super) delivery: Delivery,
    pub(super) target: Target,
    pub(super) sender: SendPurpose,
    /// Follow-up of a client's write.
    pub(super) follow_up: Option<FollowUp>,
    pub(super) deadline: Duration,
    pub(super) span: tracing::Span,
}

/// Recipients of a send operation.
#[derive(Debug)]
pub(super) enum Target {
    /// A read will determine them, and what they have.
    Read,
    /// They are known. `answering`: the number of them that have answered recently. `is_guess`:
    /// they come from an earlier read or write.
    Known { answering: usize, is_guess: bool },
}

impl SendPurpose {
    /// Whether a client has begun it, or something that it serves.
    pub(in crate::behaviour) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..) | Self::Returned | Self::Repair { is_client: true })
    }

    pub(super) fn span(&self, record_put: &RecordPut) -> tracing::Span {
        let (key, chunks) = (&record_put.key, record_put.chunks.len());
        let (parent, purpose) = match self {
            Self::Client(reply, ..) => (reply.span().id(), None),
            Self::Repair { .. } => (None, Some("repair")),
            Self::Refresh => (None, Some("refresh")),
            Self::Replication => (None, Some("replication")),
            Self::Returned => (None, None),
        };
        tracing::debug_span!(parent: parent, "put", %key, chunks, purpose)
    }

    /// Whether it repairs other peers.
    pub(super) const fn is_repair(&self) -> bool {
        matches!(self, Self::Repair { .. } | Self::Replication)
    }
}

impl Sending {
    /// Asks for a read, which tells where it goes.
    pub(super) fn read(&self, id: u64) -> Step {
        let is_client = self.sender.is_client();
        Step::Read { id, key: self.content.key.clone(), is_client }
    }

    pub(super) fn deliver(&mut self, env: &mut Env, name: OperationId) {
        let now = env.now();
        let delivery = &mut self.delivery;
        let left = self.content.lifetime(now);
        let key = Bytes::copy_from_slice(self.content.key.as_bytes());
        env.net.send(name, |requests, _, now| {
            let (id, peer, value) = delivery.next(requests, now)?;
            tracing::trace!(%peer, bytes = value.len(), "sending a chunk");
            // A peer named as publisher would not receive what others write.
            let record = Record { value, publisher: None, ttl: left };
            Some((id, peer, Request::PutValue { key: key.clone(), record }))
        });
    }

    /// Sets the recipients.
    pub(super) fn send_to(
        &mut self,
        env: &Env,
        closest: Closest,
        chunks: &Arc<[Bytes]>,
        is_guess: bool,
    ) {
        self.target = Target::Known { answering: closest.answered, is_guess };
        let peers = self.delivery.add_recipients(closest.replicas, chunks, &env.registry);
        self.note(peers, ReplicaState::Sent);
    }

    pub(super) fn on_delivered(&mut self, env: &mut Env, peer: PeerId, outcome: RequestOutcome) {
        let state = match outcome {
            RequestOutcome::Answered(_) => {
                tracing::trace!(%peer, "chunk acknowledged");
                if !self.delivery.on_taken(peer) {
                    return;
                }
                if let Some(follow_up) = &mut self.follow_up {
                    follow_up.on_acknowledged(peer, env.net.now());
                }
                ReplicaState::Acknowledged
            }
            RequestOutcome::Late => return,
            RequestOutcome::Failed(ref error) => {
                tracing::debug!(%peer, %error, "chunk not acknowledged");
                self.delivery.on_failure(&peer);
                match outcome.failure() {
                    Some(lookup::Failure::Invalid | lookup::Failure::Unsupported) => {
                        ReplicaState::Refused
                    }
                    _ => ReplicaState::Silent,
                }
            }
            RequestOutcome::Silent => {
                self.delivery.on_failure(&peer);
                ReplicaState::Silent
            }
        };
        self.note([peer], state);
    }

    pub(super) fn note(&self, peers: impl IntoIterator<Item = PeerId>, state: ReplicaState) {
        if let Some(follow_up) = &self.follow_up {
            follow_up.report(peers, state);
        }
    }

    /// Whether it has further requests to send.
    pub(super) fn has_requests(&self) -> bool {
        self.delivery.has_next() || self.follow_up.as_ref().is_some_and(FollowUp::is_due)
    }

    /// When the deadline or the next check of the follow-up is due.
    pub(super) fn next_at(&self) -> Duration {
        let check = self.follow_up.as_ref().and_then(FollowUp::next_at);
        check.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Ends because something better is there, and returns the reply to the client, if it has not
    /// got one yet.
    pub(super) fn refuse(self, stale: ValidationError) -> Option<Step> {
        tracing::debug!(%stale, "not sent");
        match self.sender {
            SendPurpose::Client(reply, ..) => Some(Step::Reply(reply, Err(stale.into()))),
            // The store has the better one by now, so the next refresh stops keeping this one.
            SendPurpose::Refresh => {
                Some(Step::Sent { key: self.content.key, is_acknowledged: true })
            }
            _ => None,
        }
    }

    /// Returns the reply to the client, if it has not got one yet. The send operation then goes on
    /// in the background.
    pub(super) fn reply(&mut self, now: Duration) -> Option<Step> {
        if !matches!(self.sender, SendPurpose::Client(..)) {
            return None;
        }
        let sender = std::mem::replace(&mut self.sender, SendPurpose::Returned);
        let SendPurpose::Client(reply, publication, _) = sender else {
            return None;
        };
        self.deadline = now.saturating_add(BACKGROUND);
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "published");
        if let Some(follow_up) = &mut self.follow_up {
            follow_up.begin(&peers, now);
        }
        let publication = Publication { peers, ..*publication };
        let result = match publication.peers.is_empty() {
            true => Err(ClientError::NotAcknowledged(Box::new(publication))),
            false => Ok(publication),
        };
        Some(Step::Reply(reply, result))
    }

    pub(super) fn end(self, env: &mut Env) -> Option<Step> {
        let key = self.content.key.clone();
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "sent");
        match self.sender {
            SendPurpose::Repair { .. } => {
                env.count(|c| &mut c.repairs, peers.len());
                if !peers.is_empty() {
                    env.meter.note(Amount::RepairedPeers(peers.len()));
                    env.events.push_back(Event::Repaired { key, peers });
                }
            }
            SendPurpose::Refresh => {
                env.count(|c| &mut c.refreshes, 1);
                env.meter.note(Amount::RefreshedPeers(peers.len()));
                let is_acknowledged = !peers.is_empty();
                env.events.push_back(Event::Refreshed { key: key.clone(), peers });
                return Some(Step::Sent { key, is_acknowledged });
            }
            SendPurpose::Replication => env.events.push_back(Event::Replicated { key }),
            // The client has got its reply, perhaps that nobody has acknowledged it.
            SendPurpose::Client(..) | SendPurpose::Returned => {
                return (!peers.is_empty()).then_some(Step::Sent { key, is_acknowledged: true });
            }
        }
        None
    }
}
