//! What others send, when it is validated off the swarm's task.
//!
//! **Invariants.** Both kinds of inbound writes are handled, records and provider records. Whatever is refused is
//! counted. If someone is to be asked, nothing of others is stored unasked, whether it was sent or read.

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, InboundRequest, store::RecordStore};

use super::{Behaviour, Event, InboundRefusal, worker::Job};
use crate::{
    clock::wall_clock,
    key::RecordKey,
    store::{Checked, Origin},
    time::Timestamp,
};

impl Behaviour {
    /// Takes the record out of a request, if it is ours to store. What is left is told to the user, the same whether
    /// validation is off the task or not.
    pub(super) fn admit_request(&mut self, request: InboundRequest) -> InboundRequest {
        if self.inbound.is_none() {
            return request;
        }
        match request {
            InboundRequest::PutRecord { source, connection, record } => {
                if let Some(record) = record {
                    let admitted = self.admit_record(source, record);
                    self.note_refusal(source, admitted);
                }
                InboundRequest::PutRecord { source, connection, record: None }
            }
            InboundRequest::AddProvider { record } => {
                if let Some(record) = record {
                    // Kademlia has made sure that this is who has sent it.
                    let source = record.provider;
                    let admitted = self.admit_provider(record);
                    self.note_refusal(source, admitted);
                }
                InboundRequest::AddProvider { record: None }
            }
            request => request,
        }
    }

    fn admit_record(&mut self, source: PeerId, record: kad::Record) -> Result<(), InboundRefusal> {
        let now = self.clock.now();
        let Some((inbound, worker)) = &mut self.inbound else {
            return Ok(());
        };
        inbound.admit(source, now)?;
        inbound.enter()?;
        let job = Job {
            source,
            key: RecordKey::new(record.key.to_vec()),
            value: record.value,
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
        };
        tracing::trace!(%source, key = %job.key, bytes = job.value.len(), "an inbound record");
        if worker.give(job) {
            return Ok(());
        }
        inbound.leave();
        Err(InboundRefusal::Stopped)
    }

    /// Whether someone is asked before anything of others is stored.
    pub(super) fn is_asking(&self) -> bool {
        self.inbound.as_ref().is_some_and(|(_, worker)| worker.asks)
    }

    /// Has someone asked about what this node has read from `source`, and would store. With no room in the queue it is not
    /// stored; another read will find it again.
    pub(super) fn ask_about(
        &mut self,
        source: PeerId,
        key: &RecordKey,
        value: &[u8],
        expires_at: Option<Timestamp>,
    ) {
        let Some((inbound, worker)) = &mut self.inbound else {
            return;
        };
        if inbound.enter().is_err() {
            return tracing::debug!(%key, "what was read is not kept: the queue is full");
        }
        let job =
            Job { source, key: key.clone(), value: value.to_vec(), publisher: None, expires_at };
        if !worker.give(job) {
            inbound.leave();
        }
    }

    fn admit_provider(&mut self, record: kad::ProviderRecord) -> Result<(), InboundRefusal> {
        let now = self.clock.now();
        if let Some((inbound, _)) = &mut self.inbound {
            inbound.admit(record.provider, now)?;
        }
        if let Err(error) = self.kad.store_mut().add_provider(record) {
            tracing::debug!(?error, "a provider record was not stored");
        }
        Ok(())
    }

    fn note_refusal(&mut self, source: PeerId, admitted: Result<(), InboundRefusal>) {
        let refusal = admitted.err().map(|reason| (source, reason));
        let Some((source, reason)) = refusal else {
            if self.last_refusal.is_some_and(|(last, _)| last == source) {
                self.last_refusal = None;
            }
            return;
        };
        self.count(|c| c.inbound_refused.entry(reason).or_default(), 1);
        tracing::debug!(%source, reason = reason.as_str(), "an inbound record was refused unread");
        if self.last_refusal != refusal {
            self.last_refusal = refusal;
            self.events.push_back(Event::InboundRefused { source, reason });
        }
    }

    /// A record has been validated.
    pub(super) fn on_checked(&mut self, checked: Checked) {
        if let Some((inbound, _)) = &mut self.inbound {
            inbound.leave();
        }
        if let Err(error) = self.kad.store_mut().insert(checked, Origin::Remote) {
            tracing::debug!(%error, "an inbound record was not stored");
        }
    }
}
