//! The client's side: announces, renews and withdraws, and sets the dates.
//!
//! **Invariants.** `created_at` increases with each message that the client signs. `retain_until`
//! never decreases, across all nodes. So a newer message outlives every message that it hides or
//! displaces, and a withdrawn announcement does not reappear.
//!
//! **Spec.** `docs/design.md`, section "Signing".

use std::time::Duration;

use libp2p_identity::{Keypair, PublicKey};

use super::{
    AnnounceError, Announcement, AnnouncementOffer, ClientSignedAnnouncement, ExchangeKey, Party,
    PresenceError, PresenceKey, PresenceLimits, PresenceRecord, Withdrawal,
};
use smart_record_core::{KeyMismatch, Seq, SigningHistory, Timestamp, Writer, ZeroLifetime};

/// Creates the announcements of one client under one key.
///
/// A new announcer does not know earlier announcements. So its messages are retained for as long as
/// any earlier one could be: [`max_ttl`](PresenceLimits::max_ttl) from its first message on.
/// Otherwise an announcement from before a restart with a longer lifetime could reappear after the
/// new one has been dropped.
///
/// Pass the record from the network to [`Announcer::resume`] before the first announcement to avoid
/// this: then no message is retained for longer than necessary, and the client's clock does not go
/// back. A client that has never announced anything resumes from an empty record.
#[derive(Debug)]
pub struct Announcer {
    keypair: Keypair,
    limits: PresenceLimits,
    history: SigningHistory,
    /// The known entries of the client.
    record: PresenceRecord,
}

impl Announcer {
    /// Creates an announcer for the client with this `keypair`, which has to be the client that
    /// `key` names. `limits` are those of the DHT's replicas.
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

    /// Adds the client's earlier announcements, so that new ones are later and outlive them. The
    /// record is taken to be complete: join the answers of several replicas first. If it may be
    /// incomplete, use [`learn`](Self::learn).
    ///
    /// # Errors
    /// [`KeyMismatch`] if the record has another key.
    pub fn resume(&mut self, record: &PresenceRecord) -> Result<(), KeyMismatch> {
        self.learn(record)?;
        self.history.complete();
        Ok(())
    }

    /// Adds some of the client's earlier announcements, without taking them to be complete. The
    /// next messages are later than these, and still outlive unknown ones.
    ///
    /// # Errors
    /// [`KeyMismatch`] if the record has another key.
    pub fn learn(&mut self, record: &PresenceRecord) -> Result<(), KeyMismatch> {
        self.record.join(record.clone())?;
        learn(&mut self.history, record);
        Ok(())
    }

    /// Whether nothing can be signed at `now`, because the last announcement is from the future: it
    /// was signed with a clock that was ahead of this one by more than replicas allow.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.history.is_ahead(now)
    }

    /// Forgets the announcements for which the announcer [is ahead](Self::is_ahead) of `now`, after
    /// the clock was corrected. Replicas have refused them. The next message is retained as if no
    /// earlier one were known.
    ///
    /// Look the record up first, to make sure that the earlier clock was wrong and not the current
    /// one.
    pub fn forget_future(&mut self, now: Timestamp) {
        if self.is_ahead(now) {
            self.record.forget_after(self.history.latest(now));
            self.history.forget();
            learn(&mut self.history, &self.record);
        }
    }

    /// Announces the client at `node` for `ttl` from `now`, with these X25519 keys. The node has to
    /// countersign the result: see [`ClientSignedAnnouncement::countersign`].
    ///
    /// # Errors
    /// [`AnnounceError`] if replicas would refuse the announcement (`ttl` is too long, or the node
    /// is the client itself), `ttl` is zero ([`ZeroLifetime`]), or the key cannot sign;
    /// [`Limit::CLOCK_SKEW`](smart_record_core::Limit::CLOCK_SKEW) if the announcer [is
    /// ahead](Self::is_ahead) of `now`.
    pub fn announce(
        &mut self,
        node: &PublicKey,
        handshake_key: ExchangeKey,
        presence_key: ExchangeKey,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<ClientSignedAnnouncement, AnnounceError> {
        self.sign(Writer::from(node), handshake_key, presence_key, now, ttl)
    }

    /// Announces the client again at the node of an earlier announcement, with the same X25519
    /// keys.
    ///
    /// # Errors
    /// As [`Announcer::announce`].
    pub fn renew(
        &mut self,
        earlier: &Announcement,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<ClientSignedAnnouncement, AnnounceError> {
        let node = earlier.node_identity().clone();
        self.sign(node, earlier.handshake_key(), earlier.presence_key(), now, ttl)
    }

    /// Withdraws all announcements at `node`, including those that the node has not countersigned
    /// yet. Replicas retain the withdrawal until the last announcement that it may hide has been
    /// dropped, and for at least a second. If the announcer does not know all of them
    /// ([`resume`](Self::resume)), that is [`max_ttl`](PresenceLimits::max_ttl) from `now`, 48
    /// hours by default, because a node or a replica may hold an announcement from before a
    /// restart.
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

    /// Adds an announcement that the node has countersigned to [`Announcer::record`].
    ///
    /// # Errors
    /// [`KeyMismatch`] if the announcement is for another key.
    pub fn accept(&mut self, announcement: Announcement) -> Result<(), KeyMismatch> {
        self.record.insert(announcement).map(drop)
    }

    /// The known announcements and withdrawals of the client: the record to put. It leaves out
    /// entries past `retain_until` at `now`, and the oldest that exceed the limits.
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
    ) -> Result<ClientSignedAnnouncement, AnnounceError> {
        ZeroLifetime::check(ttl)?;
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

    /// The timestamp of the next message.
    fn next(&self, now: Timestamp) -> Result<Seq, PresenceError> {
        Ok(self.history.next(now)?)
    }
}

/// Adds the entries of a record to the history. Messages carry milliseconds, so the next message is
/// at least a millisecond later.
fn learn(history: &mut SigningHistory, record: &PresenceRecord) {
    for entry in record.entries() {
        history.learn(Seq::last_at(entry.created_at()), entry.retain_until());
    }
}
