//! The client's side: announces, renews and withdraws, and gets the dates right.
//!
//! **Invariants.** `created_at` grows with everything that the client signs; `retain_until` never decreases, at
//! whichever node, so that what is newer outlives everything that it hides or takes the room of, and nothing
//! that was withdrawn comes back.
//!
//! **Spec.** `docs/design.md`, section "Signing".

use std::time::Duration;

use libp2p_identity::{Keypair, PublicKey};

use super::{
    AnnounceError, Announcement, AnnouncementOffer, ExchangeKey, HalfSigned, Party, PresenceError,
    PresenceKey, PresenceLimits, PresenceRecord, Withdrawal,
};
use smart_record_core::{KeyMismatch, Seq, SigningHistory, Timestamp, Writer};

/// Makes the announcements of one client under one key.
///
/// A new one knows nothing of earlier announcements, so it lets the first that it makes, and all that follow, be
/// retained for as long as anything earlier could be: [`max_ttl`](PresenceLimits::max_ttl) from then on. Otherwise
/// what was announced before a restart with a longer lifetime could come back when the new one is gone.
///
/// Show it what the network holds with [`Announcer::resume`] before the first announcement, and it goes by that: then
/// nothing is retained for longer than it has to be, and the client's clock does not go back. A client that has never
/// announced anything resumes from an empty record.
#[derive(Debug)]
pub struct Announcer {
    keypair: Keypair,
    limits: PresenceLimits,
    history: SigningHistory,
    /// Where the client is present, as far as it is known here.
    record: PresenceRecord,
}

impl Announcer {
    /// An announcer for the client with this `keypair`, which has to be the one that `key` names. `limits` are
    /// those of the DHT's replicas.
    ///
    /// # Errors
    /// [`AnnounceError`] if `key` names another client or is too long.
    pub fn new(
        key: PresenceKey,
        keypair: Keypair,
        limits: PresenceLimits,
    ) -> Result<Self, AnnounceError> {
        limits.check_key(&key).map_err(PresenceError::from)?;
        let client = keypair.public().to_peer_id();
        if key.client() != client {
            return Err(PresenceError::OtherParty {
                party: Party::Client,
                named: Box::new(client),
                expected: Box::new(key.client()),
            }
            .into());
        }
        let history = SigningHistory::new(limits.max_ttl(), limits.max_clock_skew());
        let record = PresenceRecord::new(key);
        Ok(Self { keypair, limits, history, record })
    }

    /// The key of the record.
    pub const fn key(&self) -> &PresenceKey {
        self.record.key()
    }

    /// The limits of the DHT's replicas.
    pub const fn limits(&self) -> &PresenceLimits {
        &self.limits
    }

    /// Takes note of the client's earlier announcements, so that new ones come after and outlive them. These are taken
    /// for all that there were: better join what several replicas answer, and if it may not be all,
    /// [`learn`](Self::learn) it.
    ///
    /// # Errors
    /// [`KeyMismatch`] if it is a record of another key.
    pub fn resume(&mut self, record: &PresenceRecord) -> Result<(), KeyMismatch> {
        self.learn(record)?;
        self.history.complete();
        Ok(())
    }

    /// Takes note of some of the client's earlier announcements, without taking them for all that there were: what is
    /// announced next comes after these, and goes on to outlive whatever else there may have been.
    ///
    /// # Errors
    /// [`KeyMismatch`] if it is a record of another key.
    pub fn learn(&mut self, record: &PresenceRecord) -> Result<(), KeyMismatch> {
        self.record.join(record.clone())?;
        learn(&mut self.history, record);
        Ok(())
    }

    /// Whether nothing can be signed at `now`, because the last announcement seems to come from the future: it was signed
    /// with a clock that was ahead of this one by more than replicas allow.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.history.is_ahead(now)
    }

    /// Forgets the announcements for which the announcer [is ahead](Self::is_ahead) of `now`, after the clock was set right.
    /// Replicas have refused them. What is announced next is retained as if nothing of the past were known.
    ///
    /// It should be known that it was the clock of before that was wrong and not that of now: look the record up first.
    pub fn forget_future(&mut self, now: Timestamp) {
        if self.is_ahead(now) {
            self.record.forget_after(self.history.latest(now));
            self.history.forget();
            learn(&mut self.history, &self.record);
        }
    }

    /// Announces the client at `node` for `ttl` from `now` on, with these X25519 keys. The node has to
    /// countersign it; see [`HalfSigned::countersign`].
    ///
    /// # Errors
    /// [`AnnounceError`] if replicas would refuse it (too long a `ttl` or none at all, or a node that is the
    /// client itself) or the key cannot sign; [`Limit::CLOCK_SKEW`](smart_record_core::Limit::CLOCK_SKEW) if the announcer
    /// [is ahead](Self::is_ahead) of `now`.
    pub fn announce(
        &mut self,
        node: &PublicKey,
        handshake_key: ExchangeKey,
        presence_key: ExchangeKey,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<HalfSigned, AnnounceError> {
        self.sign(Writer::from(node), handshake_key, presence_key, now, ttl)
    }

    /// Announces the client once more at the node of an earlier announcement, with the same X25519 keys.
    ///
    /// # Errors
    /// As [`Announcer::announce`].
    pub fn renew(
        &mut self,
        earlier: &Announcement,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<HalfSigned, AnnounceError> {
        let node = earlier.node_identity().clone();
        self.sign(node, earlier.handshake_key(), earlier.presence_key(), now, ttl)
    }

    /// Withdraws all that was announced at `node`, also what the node has not countersigned yet. Replicas retain the
    /// withdrawal until the last announcement that it may hide is gone. If the announcer does not know all of them
    /// ([`resume`](Self::resume)), that is [`max_ttl`](PresenceLimits::max_ttl) from `now` on, 48 hours by default,
    /// because a node or a replica may hold an announcement from before a restart.
    ///
    /// # Errors
    /// As [`Announcer::announce`].
    pub fn withdraw(
        &mut self,
        node: &PublicKey,
        now: Timestamp,
    ) -> Result<Withdrawal, AnnounceError> {
        let seq = self.next(now)?;
        let created_at = seq.issued_at();
        let retain_until = self.history.retain_withdrawal_until(seq);
        let withdrawal = Withdrawal::sign(
            self.record.key(),
            &self.keypair,
            &Writer::from(node),
            created_at,
            retain_until,
            &self.limits,
        )?;
        self.history.signed(Seq::last_at(created_at), retain_until);
        self.record.insert_unchecked(withdrawal.clone().into());
        Ok(withdrawal)
    }

    /// Takes note of an announcement that the node has countersigned, so that it is part of
    /// [`Announcer::record`].
    ///
    /// # Errors
    /// [`KeyMismatch`] if it is one of another key.
    pub fn accept(&mut self, announcement: Announcement) -> Result<(), KeyMismatch> {
        self.record.insert(announcement).map(drop)
    }

    /// Where the client is present and has withdrawn, as far as it is known here: the record to be put. Without
    /// what may go at `now`.
    pub fn record(&self, now: Timestamp) -> PresenceRecord {
        let mut record = self.record.clone();
        record.collect(now);
        record.truncate(&self.limits);
        record
    }

    fn sign(
        &mut self,
        node: Writer,
        handshake_key: ExchangeKey,
        presence_key: ExchangeKey,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<HalfSigned, AnnounceError> {
        let seq = self.next(now)?;
        let created_at = seq.issued_at();
        let expires_at = created_at.saturating_add(ttl);
        let retain_until = self.history.retain_until(seq).max(expires_at);
        let offer = AnnouncementOffer {
            node,
            handshake_key,
            presence_key,
            created_at,
            expires_at,
            retain_until,
        };
        let half = offer.sign(self.record.key(), &self.keypair, &self.limits)?;
        self.history.signed(Seq::last_at(created_at), retain_until);
        Ok(half)
    }

    /// The clock of what is signed next.
    fn next(&self, now: Timestamp) -> Result<Seq, PresenceError> {
        Ok(self.history.next(now)?)
    }
}

/// The messages carry milliseconds: what is signed next is a millisecond later.
fn learn(history: &mut SigningHistory, record: &PresenceRecord) {
    for entry in record.entries() {
        history.learn(Seq::last_at(entry.created_at()), entry.retain_until());
    }
}
