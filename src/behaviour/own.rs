//! Own records of this node: the writer's spaces, and values that it keeps alive.
//!
//! Spaces and kept values are sent again once per interval, and soon after a new peer close to the
//! key appears. What no peer has acknowledged, kept or not, is sent again after pauses that double,
//! until one has. A *kept* document is also signed anew at half of its lifetime, or at once after a
//! clock that was too fast is corrected.
//!
//! **Invariants.** Pure: the time and results are inputs, and duties are outputs. Writes to one
//! space are signed in the order of arrival. A refused write leaves no trace. The work per call
//! does not grow with the number of spaces.
//!
//! **Spec.** `docs/design.md`, sections "Signing" and "Behaviour and client".

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{
    deadlines::DeadlineQueue,
    kept::{KeptDocuments, KeptValues},
};
use crate::{
    client::{KeepId, Write},
    schedule::{Due, SHORTEST_INTERVAL, half_life, jittered},
    store::storage::RecordId,
};
use smart_record_core::{
    KeptDocument, Limits, PolicyRefusal, RecordKey, Registry, Seq, SignError, SignedUpdate,
    SmartRecord, SpaceSigner, Stamp, Stamps, Timestamp, Writer,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For how many keys stamps are kept at least before those of past days are looked for.
const STAMPS: usize = 64;

/// A duty for an own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Send the space again.
    Resend,
    /// Sign the kept documents of the space anew, then send the space.
    Renew,
    /// Send the kept values again.
    ResendValues,
    /// Send again what the store has.
    ResendStored,
}

/// Own record under one key: a space or values, depending on its namespace.
#[derive(Clone, Debug, Default)]
struct OwnRecord {
    space: Option<OwnSpace>,
    values: KeptValues,
    /// When it is sent again; `None` until the first write, while only the earlier content of the
    /// space is known.
    resend: Option<Due>,
    /// Set while no peer has acknowledged what was sent last.
    unacknowledged: Option<Unacknowledged>,
    /// Distance of the farthest of the peers closest to the key, at the last lookup; `None`: there
    /// is room for more peers.
    reach: Option<RecordId>,
}

/// When what no peer has acknowledged is sent again, and after which pause.
#[derive(Clone, Copy, Debug)]
struct Unacknowledged {
    due: Due,
    pause: Duration,
}

/// One own space.
#[derive(Clone, Debug)]
struct OwnSpace {
    signer: SpaceSigner,
    kept: KeptDocuments,
}

/// All own records, by key.
#[derive(Debug)]
pub(super) struct OwnRecords {
    keypair: Keypair,
    local: PeerId,
    interval: Duration,
    topology_delay: Duration,
    records: BTreeMap<RecordKey, OwnRecord>,
    /// What the user has set. A stamp is added to the updates for which it is good.
    stamps: BTreeMap<RecordKey, Stamps>,
    /// The number of keys with stamps after those of past days were removed last.
    stamps_left: usize,
    deadlines: DeadlineQueue,
}

impl OwnRecords {
    pub(super) fn new(keypair: Keypair, interval: Duration, topology_delay: Duration) -> Self {
        let local = keypair.public().to_peer_id();
        let (interval, topology_delay) =
            (interval.max(SHORTEST_INTERVAL), topology_delay.max(SHORTEST_INTERVAL));
        let (records, deadlines) = (BTreeMap::new(), DeadlineQueue::default());
        let stamps = BTreeMap::new();
        let stamps_left = 0;
        Self { keypair, local, interval, topology_delay, records, stamps, stamps_left, deadlines }
    }

    /// Sets the stamp of the updates that are signed under a key. If it gives more work to what is
    /// signed now, the kept documents are signed anew at once. The stamps of a key that are good
    /// neither today nor tomorrow may be forgotten.
    pub(super) fn set_stamp(&mut self, key: &RecordKey, stamp: Option<Stamp>, now: Timestamp) {
        let before = self.work(key, now);
        if self.stamps.len() >= self.stamps_left.saturating_mul(2).max(STAMPS) {
            let tomorrow = now.saturating_add(DAY);
            let mut stamps = std::mem::take(&mut self.stamps);
            stamps.retain(|key, stamps| {
                let works = |at| stamps.work(&self.rank(key), Seq::next(None, at)) > 0;
                works(now) || works(tomorrow)
            });
            self.stamps_left = stamps.len();
            self.stamps = stamps;
        }
        match stamp {
            Some(_) => self.stamps.entry(key.clone()).or_default().set(stamp),
            None => drop(self.stamps.remove(key)),
        }
        let is_better = self.work(key, now) > before;
        let space = self.records.get_mut(key).and_then(|own| own.space.as_mut());
        if let Some(due) = space.and_then(|space| space.kept.renewal_mut()).filter(|_| is_better) {
            due.hasten(now, Duration::ZERO);
            self.plan(key);
        }
    }

    /// The bits of work of what is signed under a key now.
    fn work(&self, key: &RecordKey, now: Timestamp) -> u8 {
        let Some(stamps) = self.stamps.get(key) else { return 0 };
        let space = self.records.get(key).and_then(|own| own.space.as_ref());
        let last = space.and_then(|space| space.signer.space().newest());
        stamps.work(&self.rank(key), Seq::next(last.map(|last| last.seq), now))
    }

    fn rank(&self, key: &RecordKey) -> [u8; 32] {
        Writer::from(&self.keypair.public()).rank(key)
    }

    /// Checks that what is signed under a key now has the work that its namespace demands.
    pub(super) fn check_work(
        &self,
        key: &RecordKey,
        min: u8,
        now: Timestamp,
    ) -> Result<(), PolicyRefusal> {
        let got = if min > 0 { self.work(key, now) } else { 0 };
        if got < min { Err(PolicyRefusal::TooLittleWork { got, min }) } else { Ok(()) }
    }

    /// Whether the record was written to. If so, the content of an own space is completely known.
    pub(super) fn knows(&self, key: &RecordKey) -> bool {
        self.records.get(key).is_some_and(OwnRecord::is_written)
    }

    /// Keys of the records that are sent again.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        let is_sent = |own: &OwnRecord| own.is_written() || own.unacknowledged.is_some();
        self.records.iter().filter(move |(_, own)| is_sent(own)).map(|(key, _)| key)
    }

    /// Forgets all own records.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.stamps.clear();
        self.deadlines.clear();
    }

    /// Adopts the complete earlier content of the space.
    pub(super) fn resume(&mut self, key: &RecordKey, limits: &Limits, record: &SmartRecord) {
        self.space(key, limits).1.signer.resume(record);
    }

    /// Adopts earlier content of the space that may be incomplete.
    pub(super) fn learn(&mut self, key: &RecordKey, limits: &Limits, record: &SmartRecord) {
        self.space(key, limits).1.signer.learn(record);
    }

    /// Forgets a space that was not written to, so that it is looked up again before the next
    /// write.
    pub(super) fn forget_unwritten(&mut self, key: &RecordKey) {
        if let Some(own) = self.records.get_mut(key).filter(|own| !own.is_written()) {
            own.space = None;
            self.forget_empty(key);
        }
    }

    fn forget_empty(&mut self, key: &RecordKey) {
        let is_empty = |own: &OwnRecord| {
            own.space.is_none() && own.values.is_empty() && own.unacknowledged.is_none()
        };
        if self.records.get(key).is_some_and(is_empty) {
            self.records.remove(key);
        }
        self.plan(key);
    }

    /// Whether nothing can be signed because an earlier update is too far in the future.
    pub(super) fn is_ahead(&self, key: &RecordKey, now: Timestamp) -> bool {
        let space = self.records.get(key).and_then(|own| own.space.as_ref());
        space.is_some_and(|space| space.signer.is_ahead(now))
    }

    /// Forgets updates signed while the clock was too fast; kept documents stay kept. Returns
    /// whether there were any.
    pub(super) fn forget_future(&mut self, key: &RecordKey, now: Timestamp) -> bool {
        let space = self.records.get_mut(key).and_then(|own| own.space.as_mut());
        let ahead = space.filter(|space| space.signer.is_ahead(now));
        ahead.map(|space| space.signer.forget_future(now)).is_some()
    }

    /// Returns the time when the space is sent again, and the space.
    fn space(&mut self, key: &RecordKey, limits: &Limits) -> (&mut Option<Due>, &mut OwnSpace) {
        let own = self.records.entry(key.clone()).or_default();
        let space = own.space.get_or_insert_with(|| OwnSpace {
            signer: SpaceSigner::new(key.clone(), self.keypair.clone(), limits.clone()),
            kept: KeptDocuments::default(),
        });
        (&mut own.resend, space)
    }

    /// Signs a write. Returns the update, the whole space, and the state to undo the write.
    pub(super) fn write(
        &mut self,
        key: &RecordKey,
        limits: &Limits,
        write: &Write,
        now: Timestamp,
    ) -> Result<(SignedUpdate, SmartRecord, Undo), SignError> {
        let due = Due::after(now, self.jittered(key, self.interval));
        let local = self.local;
        let before = self.records.get(key).filter(|own| own.is_written()).cloned();
        let undo = Undo { key: key.clone(), own: before };
        let stamps = self.stamps.get(key).copied().unwrap_or_default();
        let (resend, space) = self.space(key, limits);
        space.signer.set_stamps(stamps);
        let signed = space.sign(write, now, resend.is_none(), |ttl| half_life(key, &local, ttl));
        match signed {
            Ok(update) => {
                *resend = Some(due);
                let record = space.signer.record(now);
                self.plan(key);
                Ok((update, record, undo))
            }
            Err(error) => {
                self.undo(undo);
                Err(error)
            }
        }
    }

    /// Undoes the last write.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.own {
            Some(own) => drop(self.records.insert(undo.key.clone(), own)),
            None => drop(self.records.remove(&undo.key)),
        }
        self.plan(&undo.key);
    }

    /// Keeps a value that was put.
    pub(super) fn keep_value(
        &mut self,
        key: &RecordKey,
        keeper: KeepId,
        value: Bytes,
        now: Timestamp,
    ) {
        let due = Due::after(now, self.jittered(key, self.interval));
        let own = self.records.entry(key.clone()).or_default();
        own.values.keep(keeper, value);
        own.resend = Some(due);
        self.plan(key);
    }

    /// Returns the combination of the kept values under a key that are still valid.
    pub(super) fn values(
        &mut self,
        key: &RecordKey,
        registry: &Registry,
        now: Timestamp,
    ) -> Option<Bytes> {
        self.records.get_mut(key)?.values.living(key, registry, now)
    }

    /// Stops keeping the values under a key.
    pub(super) fn forget_values(&mut self, key: &RecordKey) {
        if let Some(own) = self.records.get_mut(key) {
            own.values.clear();
            own.unacknowledged = None;
        }
    }

    /// Whether a handle keeps a document there, which has to be withdrawn.
    pub(super) fn keeps_document(&self, key: &RecordKey, keeper: KeepId) -> bool {
        let space = self.records.get(key).and_then(|own| own.space.as_ref());
        space.is_some_and(|space| space.kept.has(keeper))
    }

    /// Stops keeping what a handle keeps.
    pub(super) fn forget_kept(&mut self, key: &RecordKey, keeper: KeepId) {
        if let Some(own) = self.records.get_mut(key) {
            own.values.remove(keeper);
            if own.space.is_none() && own.values.is_empty() {
                own.unacknowledged = None;
            }
            own.space.as_mut().and_then(|space| space.kept.remove(keeper));
            self.plan(key);
        }
    }

    /// Keeps what a handle keeps without the handle.
    pub(super) fn detach(&mut self, key: &RecordKey, keeper: KeepId, registry: &Registry) {
        if let Some(own) = self.records.get_mut(key) {
            own.values.detach(keeper, key, registry);
            if let Some(space) = &mut own.space {
                space.kept.detach(keeper);
            }
        }
    }

    fn plan(&mut self, key: &RecordKey) {
        self.deadlines.set(key, self.records.get(key).and_then(OwnRecord::next_at));
    }

    /// Whether a peer at this distance may be one of the closest to the key. After peers have left
    /// this may be wrongly false; the peer is then served at the next regular send, which looks up
    /// the closest peers again.
    pub(super) fn may_reach(&self, key: &RecordKey, distance: RecordId) -> bool {
        let reach = self.records.get(key).and_then(|own| own.reach);
        reach.is_none_or(|reach| distance <= reach)
    }

    /// Sets the distance of the farthest of the peers closest to the key.
    pub(super) fn set_reach(&mut self, key: &RecordKey, reach: Option<RecordId>) {
        if let Some(own) = self.records.get_mut(key) {
            own.reach = reach;
        }
    }

    /// Schedules an early send for a new peer that is one of the closest to the key.
    pub(super) fn on_new_peer(&mut self, key: &RecordKey, now: Timestamp) {
        let delay = self.pause(key, self.topology_delay);
        if let Some(own) = self.records.get_mut(key) {
            let unacknowledged =
                own.unacknowledged.as_mut().map(|unacknowledged| &mut unacknowledged.due);
            for due in own.resend.iter_mut().chain(unacknowledged) {
                // Never later than planned: a steady flow of new peers does not postpone it
                // forever.
                due.hasten(now, delay);
            }
        }
        self.plan(key);
    }

    fn pause(&self, key: &RecordKey, delay: Duration) -> Duration {
        delay.saturating_add(self.jittered(key, delay))
    }

    /// No peer has acknowledged what was sent: it is sent again soon, and less often each time.
    pub(super) fn on_not_acknowledged(&mut self, key: &RecordKey, now: Timestamp) {
        let last = self.records.get(key).and_then(|own| own.unacknowledged);
        let pause = last.map_or(self.topology_delay, |last| last.pause.saturating_mul(2));
        let pause = pause.min(self.interval);
        let due = Due::after(now, self.pause(key, pause));
        self.records.entry(key.clone()).or_default().unacknowledged =
            Some(Unacknowledged { due, pause });
        self.plan(key);
    }

    /// A peer has acknowledged what was sent, or nothing of it is left.
    pub(super) fn on_acknowledged(&mut self, key: &RecordKey) {
        if let Some(own) = self.records.get_mut(key).filter(|own| own.unacknowledged.is_some()) {
            own.unacknowledged = None;
            self.forget_empty(key);
        }
    }

    /// Adjusts due times after the clock was set back: nothing waits longer than from the new time
    /// on, and kept documents whose updates are now too far in the future are signed anew at once.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let keys: Vec<_> = self.records.keys().cloned().collect();
        for key in keys {
            if let Some(own) = self.records.get_mut(&key) {
                let unacknowledged =
                    own.unacknowledged.as_mut().map(|unacknowledged| &mut unacknowledged.due);
                own.resend.iter_mut().chain(unacknowledged).for_each(|due| due.cap(now));
                if let Some(OwnSpace { signer, kept }) = &mut own.space
                    && let Some(due) = kept.renewal_mut()
                {
                    due.cap(now);
                    if signer.is_ahead(now) {
                        due.hasten(now, Duration::ZERO);
                    }
                }
            }
            self.plan(&key);
        }
    }

    /// Time of the next duty.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.deadlines.next_at()
    }

    /// Returns a record with a duty, once for each reason. Drops records of which nothing is left.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<(RecordKey, Duty)> {
        loop {
            let key = self.deadlines.due(now)?;
            let resend = Due::after(now, self.jittered(&key, self.interval));
            let local = self.local;
            let due = self.records.get_mut(&key).and_then(|own| {
                own.resend = own.resend.map(|_| resend);
                if let Some(unacknowledged) = &mut own.unacknowledged {
                    // Until it is known what comes of it this time.
                    unacknowledged.due = resend;
                }
                own.reach = None;
                own.duty(now, |ttl| half_life(&key, &local, ttl))
            });
            if let Some(due) = due {
                self.plan(&key);
                return Some((key, due));
            }
            self.records.remove(&key);
            self.plan(&key);
        }
    }

    /// Signs the kept documents under a key anew. After a failure they are due again soon, with
    /// growing delays.
    pub(super) fn renew(&mut self, key: &RecordKey, now: Timestamp) -> Result<(), SignError> {
        let space = self.records.get_mut(key).and_then(|own| own.space.as_mut());
        let Some(OwnSpace { signer, kept }) = space.filter(|space| !space.kept.is_empty()) else {
            return Ok(());
        };
        signer.set_stamps(self.stamps.get(key).copied().unwrap_or_default());
        let renewed = kept.renew(signer, now).map(drop);
        kept.on_renewed(now, renewed.is_ok());
        self.plan(key);
        renewed
    }

    /// Puts a renewal off that cannot be signed, as after a [failure](Self::renew).
    pub(super) fn put_off_renewal(&mut self, key: &RecordKey, now: Timestamp) {
        if let Some(space) = self.records.get_mut(key).and_then(|own| own.space.as_mut()) {
            space.kept.on_renewed(now, false);
            self.plan(key);
        }
    }

    /// The whole space under a key.
    pub(super) fn record(&self, key: &RecordKey, now: Timestamp) -> Option<SmartRecord> {
        let record = self.records.get(key)?.space.as_ref()?.signer.record(now);
        (record.spaces().len() > 0).then_some(record)
    }

    fn jittered(&self, key: &RecordKey, duration: Duration) -> Duration {
        jittered(key, &self.local, duration)
    }
}

impl OwnRecord {
    const fn is_written(&self) -> bool {
        self.resend.is_some()
    }

    fn next_at(&self) -> Option<Timestamp> {
        let renewal = self.space.as_ref().and_then(|space| space.kept.renewal_at());
        let unacknowledged = self.unacknowledged.map(|unacknowledged| unacknowledged.due.at());
        self.resend.map(Due::at).into_iter().chain(renewal).chain(unacknowledged).min()
    }

    /// Returns the duty, if anything is left. A due renewal is scheduled again.
    fn duty(&mut self, now: Timestamp, half_life: impl Fn(Duration) -> Duration) -> Option<Duty> {
        if let Some(OwnSpace { signer, kept }) = &mut self.space {
            if kept.renewal_at().is_some_and(|at| at <= now) {
                kept.plan(now, half_life);
                return Some(Duty::Renew);
            }
            if !kept.is_empty() || signer.record(now).spaces().len() > 0 {
                return Some(Duty::Resend);
            }
        }
        if !self.values.is_empty() {
            return Some(Duty::ResendValues);
        }
        self.unacknowledged.map(|_| Duty::ResendStored)
    }
}

impl OwnSpace {
    /// Signs a write. `half_life` maps a lifetime to the delay until its renewal.
    fn sign(
        &mut self,
        write: &Write,
        now: Timestamp,
        is_first: bool,
        half_life: impl Fn(Duration) -> Duration,
    ) -> Result<SignedUpdate, SignError> {
        let Self { signer, kept } = self;
        match write {
            Write::Merge(document, ttl) => {
                kept.publish(document);
                signer.merge(document.clone(), now, *ttl)
            }
            Write::Keep(keeper, document, ttl) => {
                kept.keep(*keeper, document.clone(), *ttl)?;
                kept.plan(now, half_life);
                if is_first {
                    // Earlier content of the space that no peer has shown is not hidden.
                    return KeptDocument::new(document.clone(), *ttl)?.sign(signer, now);
                }
                kept.renew(signer, now)
            }
            Write::KeepOnly(keeper, document, ttl) => {
                let earlier = kept.remove(*keeper);
                kept.keep(*keeper, document.clone(), *ttl)?;
                kept.plan(now, half_life);
                kept.renew_without(earlier, signer, now)
            }
            Write::WithdrawKept(keeper) => kept.withdraw(*keeper, signer, now),
            Write::Replace(document, ttl) => {
                kept.clear();
                signer.replace(document.clone(), now, *ttl)
            }
            Write::Withdraw => {
                kept.clear();
                signer.withdraw(now)
            }
        }
    }
}

/// State of a record before a write; `None`: there was none.
#[derive(Debug)]
pub(super) struct Undo {
    key: RecordKey,
    own: Option<OwnRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::{Dict, Seq, StampSearch, Writer};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DELAY: Duration = Duration::from_secs(10);

    fn spaces() -> OwnRecords {
        OwnRecords::new(Keypair::generate_ed25519(), HOUR, DELAY)
    }

    #[test]
    fn with_settings_of_zero_nothing_is_due_again_at_once() {
        let (key, zero) = (RecordKey::new("/sr/a"), Duration::ZERO);
        let mut own = OwnRecords::new(Keypair::generate_ed25519(), zero, zero);
        write(&mut own, &key, Write::Merge(says("x"), HOUR));
        let mut now = NOW;
        for _ in 0..4 {
            own.on_not_acknowledged(&key, now);
            assert_eq!(own.due(now), None);
            now = own.next_at().unwrap();
            assert!(own.due(now).is_some());
        }
        own.on_acknowledged(&key);
        now = own.next_at().unwrap();
        assert_eq!(own.due(now), Some((key, Duty::Resend)));
        assert!(own.next_at().unwrap() > now);
    }

    #[test]
    fn a_stamp_stands_in_writes_and_renewals() {
        let (key, mut own) = (RecordKey::new("/sr/a"), spaces());
        let rank = Writer::from(&own.keypair.public()).rank(&key);
        let stamp = StampSearch::new(rank, Seq::next(None, NOW), 4).step(1 << 16);
        let work = |own: &OwnRecords, now| {
            let record = own.record(&key, now).unwrap();
            record.spaces().next().unwrap().1.updates().last().unwrap().work(&rank)
        };
        own.set_stamp(&key, stamp, NOW);
        write(&mut own, &key, Write::Keep(KeepId(1), says("x"), HOUR));
        assert_eq!(work(&own, NOW), 4);
        let later = NOW.saturating_add(Duration::from_secs(60));
        own.renew(&key, later).unwrap();
        assert_eq!(work(&own, later), 4);
        own.set_stamp(&key, None, later);
        own.renew(&key, later).unwrap();
        assert_eq!(work(&own, later), 0);
    }

    /// A stamp of four bits of the own space, of the day of a time.
    fn stamp_at(own: &OwnRecords, key: &RecordKey, now: Timestamp) -> Option<Stamp> {
        StampSearch::new(own.rank(key), Seq::next(None, now), 4).step(1 << 16)
    }

    #[test]
    fn a_better_stamp_makes_the_renewal_due_and_one_of_tomorrow_does_not() {
        // A stamp may be good on another day by chance, so the key is always the same.
        let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let (key, mut own) = (RecordKey::new("/sr/a"), OwnRecords::new(keypair, HOUR, DELAY));
        let tomorrow = NOW.saturating_add(DAY);
        own.set_stamp(&key, stamp_at(&own, &key, NOW), NOW);
        write(&mut own, &key, Write::Keep(KeepId(1), says("x"), HOUR));
        assert_eq!(own.check_work(&key, 4, NOW), Ok(()));
        own.set_stamp(&key, stamp_at(&own, &key, tomorrow), NOW);
        assert_eq!(own.due(NOW), None, "it is not better now");
        assert_eq!(own.check_work(&key, 4, NOW), Ok(()), "the one before is kept");
        assert_eq!(own.check_work(&key, 4, tomorrow), Ok(()));
        let later = tomorrow.saturating_add(DAY);
        let refused = PolicyRefusal::TooLittleWork { got: 0, min: 4 };
        assert_eq!(own.check_work(&key, 4, later), Err(refused));
        assert_eq!(own.check_work(&key, 0, later), Ok(()));
        while own.due(later).is_some() {}
        own.put_off_renewal(&key, later);
        let retry = own.next_at().unwrap();
        assert!(retry <= later.saturating_add(super::super::kept::FIRST_RETRY));
        own.set_stamp(&key, stamp_at(&own, &key, later), later);
        assert_eq!(own.due(later), Some((key, Duty::Renew)));
    }

    #[test]
    fn stamps_of_past_days_are_forgotten() {
        let mut own = spaces();
        let key = |n: usize| RecordKey::new(format!("/sr/{n}"));
        let last = NOW.saturating_add(3 * DAY);
        for n in 0..STAMPS {
            own.set_stamp(&key(n), stamp_at(&own, &key(n), NOW), NOW);
        }
        let days = [last, last.saturating_add(DAY)];
        for (n, day) in days.into_iter().enumerate() {
            own.set_stamp(&key(STAMPS + n), stamp_at(&own, &key(STAMPS + n), day), last);
        }
        // Some may be good by chance.
        assert!(own.stamps.len() < STAMPS / 2, "{}", own.stamps.len());
        assert!([0, 1].iter().all(|n| own.stamps.contains_key(&key(STAMPS + n))));
        own.clear();
        assert!(own.stamps.is_empty());
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let keypair = Keypair::generate_ed25519();
        let mut spaces = OwnRecords::new(keypair.clone(), HOUR, DELAY);
        let key = RecordKey::new("/sr/a");
        let write = Write::Merge(says("x"), HOUR);
        let undo = spaces.write(&key, &Limits::default(), &write, NOW).unwrap().2;
        let secret = keypair.try_into_ed25519().unwrap();
        let decimals = format!("{:?}", secret.secret().as_ref());
        let shown = format!("{spaces:?} {undo:?}");
        assert!(!shown.contains(decimals.trim_matches(['[', ']'])), "{shown}");
    }

    fn says(text: &str) -> Dict {
        [("text", text)].into_iter().collect()
    }

    fn write(spaces: &mut OwnRecords, key: &RecordKey, write: Write) -> SignedUpdate {
        spaces.write(key, &Limits::default(), &write, NOW).unwrap().0
    }

    #[test]
    fn a_space_is_sent_again_within_the_interval_until_it_has_expired() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        // It was never written before, so no older update has to be outlived.
        spaces.resume(&key, &Limits::default(), &SmartRecord::new(key.clone()));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        assert_eq!(spaces.due(NOW.saturating_add(HOUR * 3 / 4 - DELAY)), None);
        assert_eq!(spaces.due(NOW.saturating_add(HOUR)), Some((key.clone(), Duty::Resend)));
        assert_eq!(spaces.due(NOW.saturating_add(HOUR)), None, "once");
        assert_eq!(spaces.due(NOW.saturating_add(2 * HOUR)), None);
        assert!(!spaces.knows(&key), "the expired space is dropped");
    }

    #[test]
    fn a_kept_document_is_renewed_before_it_expires_until_withdrawn() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let ttl = Duration::from_secs(600);
        let first = write(&mut spaces, &key, Write::Keep(KeepId(0), says("x"), ttl));
        let mut now = NOW;
        for _ in 0..10 {
            let at = spaces.next_at().unwrap();
            let life = at.saturating_since(now);
            assert!(life <= ttl / 2 && life >= ttl * 3 / 8, "{life:?}");
            now = at;
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
            spaces.renew(&key, now).unwrap();
            assert_eq!(spaces.due(now), None);
            let record = spaces.record(&key, now).unwrap();
            let view = record.view(now);
            let space = view.iter().next().unwrap().1;
            assert_eq!(space.expires_at, now.saturating_add(ttl));
            assert!(space.seq > first.seq());
        }
        spaces.write(&key, &Limits::default(), &Write::Withdraw, now).unwrap();
        assert!(spaces.next_at().unwrap() > now.saturating_add(HOUR / 2), "no further renewal");
        assert!(spaces.record(&key, now).unwrap().view(now).is_empty());
    }

    #[test]
    fn a_burst_of_new_peers_causes_one_early_send() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        for second in 0..100 {
            spaces.on_new_peer(&key, NOW.saturating_add(Duration::from_secs(second)));
        }
        let at = spaces.next_at().unwrap();
        assert!(at <= NOW.saturating_add(2 * DELAY) && at >= NOW.saturating_add(DELAY));
        assert_eq!(spaces.due(at), Some((key, Duty::Resend)));
        assert_eq!(spaces.due(at), None);
    }

    #[test]
    fn what_nobody_has_acknowledged_is_sent_again_less_and_less_often_until_somebody_has() {
        let (space, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
        for (key, duty) in [(space, Duty::Resend), (value, Duty::ResendStored)] {
            let mut own = spaces();
            if duty == Duty::Resend {
                write(&mut own, &key, Write::Merge(says("x"), 24 * HOUR));
            }
            let (mut now, mut pauses) = (NOW, Vec::new());
            for _ in 0..12 {
                own.on_not_acknowledged(&key, now);
                let sent_at = own.next_at().unwrap();
                assert_eq!(own.due(sent_at), Some((key.clone(), duty)));
                assert_eq!(own.due(sent_at), None, "once");
                pauses.push(sent_at.saturating_since(now));
                now = sent_at;
            }
            assert!(pauses[0] >= DELAY && pauses[0] <= 2 * DELAY, "{pauses:?}");
            assert!(pauses.is_sorted() && pauses[3] >= 8 * DELAY, "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause <= 2 * HOUR), "{pauses:?}");
            own.on_not_acknowledged(&key, now);
            own.on_new_peer(&key, now);
            assert!(own.next_at().unwrap() <= now.saturating_add(2 * DELAY));
            own.on_acknowledged(&key);
            assert_eq!(
                own.next_at().is_some(),
                duty == Duty::Resend,
                "once an interval, if at all"
            );
            assert_eq!(own.keys().count(), own.records.len());
        }
    }

    #[test]
    fn documents_kept_by_one_handle_are_merged_and_the_later_wins() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let minutes = |n: u32| n * Duration::from_secs(60);
        for n in 0..100 {
            let keep = Write::Keep(KeepId(0), says(&n.to_string()), minutes(10 + n % 2));
            write(&mut spaces, &key, keep);
        }
        let other = [("other", "kept too")].into_iter().collect();
        write(&mut spaces, &key, Write::Keep(KeepId(0), other, minutes(1)));
        let mut now = NOW;
        for _ in 0..10 {
            now = spaces.next_at().unwrap();
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
            spaces.renew(&key, now).unwrap();
            assert_eq!(spaces.due(now), None, "one renewal for both");
            let record = spaces.record(&key, now).unwrap();
            let (_, space) = record.spaces().next().unwrap();
            assert_eq!(space.updates().len(), 1, "renewals do not pile up");
            let view = space.view(now).unwrap();
            assert_eq!(view.document.get("text").unwrap().to_string(), "\"99\"");
            assert_eq!(view.document.len(), 2);
            assert_eq!(view.expires_at, now.saturating_add(minutes(11)), "the longer of the two");
        }
        let published_at = now;
        // A document published over it stays until it expires, also after renewals.
        spaces
            .write(&key, &Limits::default(), &Write::Merge(says("now"), minutes(20)), now)
            .unwrap();
        for _ in 0..2 {
            now = spaces.next_at().unwrap();
            assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
            spaces.renew(&key, now).unwrap();
            let view = spaces.record(&key, now).unwrap().view(now);
            let document = &view.iter().next().unwrap().1.document;
            assert_eq!(document.get("text").unwrap().to_string(), "\"now\"");
            assert_eq!(document.len(), 2);
        }
        let end = published_at.saturating_add(minutes(20));
        let view = spaces.record(&key, end).unwrap().view(end);
        assert!(view.iter().all(|(_, space)| space.document.get("text").is_none()));
    }

    fn text_at(spaces: &OwnRecords, key: &RecordKey, now: Timestamp) -> Vec<String> {
        let view = spaces.record(key, now).map(|record| record.view(now)).unwrap_or_default();
        let document = view.iter().next().map(|(_, space)| space.document.clone());
        document.unwrap_or_default().iter().map(|(name, node)| format!("{name}: {node}")).collect()
    }

    #[test]
    fn each_handle_keeps_its_own_document_without_the_parts_that_others_overwrote() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let [first, second] = [KeepId(1), KeepId(2)];
        write(&mut spaces, &key, Write::Keep(first, says("first"), HOUR));
        let both: Dict = [("text", "second"), ("more", "x")].into_iter().collect();
        write(&mut spaces, &key, Write::Keep(second, both, HOUR / 2));
        // The first document is overwritten, so withdrawing it changes nothing.
        assert!(!spaces.keeps_document(&key, first) && spaces.keeps_document(&key, second));
        write(&mut spaces, &key, Write::WithdrawKept(first));
        assert_eq!(text_at(&spaces, &key, NOW), ["\"more\": \"x\"", "\"text\": \"second\""]);
        write(&mut spaces, &key, Write::Keep(first, says("again"), HOUR));
        write(&mut spaces, &key, Write::WithdrawKept(second));
        assert_eq!(text_at(&spaces, &key, NOW), ["\"text\": \"again\""]);
        let record = spaces.record(&key, NOW).unwrap();
        assert_eq!(record.spaces().next().unwrap().1.updates().len(), 1);
        write(&mut spaces, &key, Write::WithdrawKept(first));
        assert_eq!(text_at(&spaces, &key, NOW), Vec::<String>::new());
    }

    #[test]
    fn the_shortest_lifetime_determines_the_renewal_of_all_documents() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let other = [("other", "x")].into_iter().collect();
        write(&mut spaces, &key, Write::Keep(KeepId(1), says("long"), 10 * HOUR));
        write(&mut spaces, &key, Write::Keep(KeepId(2), other, HOUR / 6));
        let mut now = NOW;
        for _ in 0..20 {
            now = spaces.next_at().unwrap();
            let (_, duty) = spaces.due(now).unwrap();
            assert_eq!(duty, Duty::Renew);
            spaces.renew(&key, now).unwrap();
            assert_eq!(text_at(&spaces, &key, now).len(), 2);
        }
        // Each document lives for its own lifetime.
        assert_eq!(text_at(&spaces, &key, now.saturating_add(HOUR / 6)).len(), 1);
        assert_eq!(text_at(&spaces, &key, now.saturating_add(10 * HOUR)).len(), 0);
    }

    #[test]
    fn detached_documents_are_kept_as_one() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        for n in 0..50 {
            let name = format!("n{}", n % 3);
            let document = [(name.as_str(), "x")].into_iter().collect();
            write(&mut spaces, &key, Write::Keep(KeepId(n), document, HOUR));
            spaces.detach(&key, KeepId(n), &Registry::default());
            assert!(!spaces.keeps_document(&key, KeepId(n)));
        }
        let now = spaces.next_at().unwrap();
        spaces.renew(&key, now).unwrap();
        assert_eq!(text_at(&spaces, &key, now.saturating_add(HOUR / 2)).len(), 3);
        // It has no handle, but is withdrawn with the whole space.
        spaces.write(&key, &Limits::default(), &Write::Withdraw, now).unwrap();
        assert_eq!(spaces.due(now.saturating_add(HOUR / 2)), None, "no renewal");
        assert_eq!(spaces.renew(&key, now), Ok(()));
        assert!(text_at(&spaces, &key, now).is_empty());
    }

    #[test]
    fn a_kept_value_is_sent_again_until_nothing_keeps_it() {
        let registry = Registry::empty().with_fallback(smart_record_core::AcceptAny::up_to(3));
        let (mut own, key) = (spaces(), RecordKey::new("/any/a"));
        for (keeper, value) in [(1, "a"), (2, "b"), (3, "long")] {
            own.keep_value(&key, KeepId(keeper), Bytes::from(value), NOW);
        }
        assert!(own.next_at().unwrap() <= NOW.saturating_add(HOUR));
        own.on_new_peer(&key, NOW);
        let now = own.next_at().unwrap();
        assert!(now <= NOW.saturating_add(2 * DELAY));
        assert_eq!(own.due(now), Some((key.clone(), Duty::ResendValues)));
        assert_eq!(
            own.values(&key, &registry, now),
            Some(Bytes::from("b")),
            "the newest valid value"
        );
        own.detach(&key, KeepId(2), &registry);
        own.forget_kept(&key, KeepId(2));
        assert_eq!(
            own.values(&key, &registry, now),
            Some(Bytes::from("b")),
            "detached values stay"
        );
        own.forget_values(&key);
        assert_eq!(own.due(now.saturating_add(HOUR)), None);
        assert!(own.records.is_empty() && own.next_at().is_none());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_renewals() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(KeepId(0), says("x"), HOUR));
        let earlier = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(earlier);
        assert!(spaces.next_at().unwrap() <= earlier.saturating_add(HOUR / 2));
        // Other peers would refuse what is signed now. The renewal is retried in case the earlier
        // clock was right.
        assert!(spaces.is_ahead(&key, earlier) && spaces.renew(&key, earlier).is_err());
        spaces.on_clock_set_back(earlier.saturating_sub(24 * HOUR));
        assert!(spaces.next_at().unwrap() <= earlier.saturating_sub(23 * HOUR));
        spaces.renew(&key, NOW).unwrap();
    }

    #[test]
    fn case_24_kept_documents_are_signed_anew_at_once_after_a_clock_far_ahead() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(KeepId(0), says("x"), HOUR));
        let right = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(right);
        assert_eq!(spaces.due(right), Some((key.clone(), Duty::Renew)));
        assert!(spaces.next_at().unwrap() > right, "once");
        assert!(spaces.forget_future(&key, right) && !spaces.forget_future(&key, right));
        spaces.renew(&key, right).unwrap();
        let record = spaces.record(&key, right).unwrap();
        let (_, space) = record.spaces().next().unwrap();
        assert_eq!(space.updates().len(), 1);
        assert_eq!(space.updates().next().unwrap().document(), says("x"));
    }

    #[test]
    fn a_failed_renewal_is_retried_with_growing_delays() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Keep(KeepId(0), says("x"), HOUR));
        let mut now = NOW.saturating_sub(24 * HOUR);
        spaces.on_clock_set_back(now);
        assert_eq!(spaces.due(now), Some((key.clone(), Duty::Renew)));
        // No peer is reached, so nothing proves that the earlier clock was wrong.
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert!(spaces.renew(&key, now).is_err());
            let failed_at = now;
            loop {
                now = spaces.next_at().unwrap();
                if spaces.due(now) == Some((key.clone(), Duty::Renew)) {
                    break;
                }
            }
            waits.push(now.saturating_since(failed_at));
        }
        assert_eq!(waits[..4], [1, 2, 4, 8].map(|n| n * super::super::kept::FIRST_RETRY));
        assert!(waits.iter().all(|wait| *wait <= HOUR / 2), "{waits:?}");
        assert!(spaces.forget_future(&key, now));
        spaces.renew(&key, now).unwrap();
        assert!(
            spaces.next_at().unwrap() >= now.saturating_add(HOUR * 3 / 8),
            "half of the lifetime, less the jitter"
        );
    }

    #[test]
    fn a_peer_beyond_the_farthest_of_the_closest_is_out_of_reach() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), 2 * HOUR));
        let at = |byte| RecordId([byte; 32]);
        assert!(spaces.may_reach(&key, at(9)), "no lookup yet");
        spaces.set_reach(&key, Some(at(5)));
        assert!(spaces.may_reach(&key, at(4)) && !spaces.may_reach(&key, at(6)));
        assert!(spaces.due(NOW.saturating_add(HOUR)).is_some());
        assert!(spaces.may_reach(&key, at(6)), "reset with each send, because peers may have left");
    }

    #[test]
    fn a_refused_first_write_leaves_no_space_behind() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        let nothing = SmartRecord::new(key.clone());
        spaces.resume(&key, &Limits::default(), &nothing);
        let endless = Write::Merge(says("x"), 1_000 * HOUR);
        assert!(spaces.write(&key, &Limits::default(), &endless, NOW).is_err());
        assert!(!spaces.knows(&key) && spaces.records.is_empty());

        spaces.resume(&key, &Limits::default(), &nothing);
        assert!(!spaces.knows(&key), "nothing was written yet");
        let good = Write::Merge(says("x"), HOUR);
        let (_, _, undo) = spaces.write(&key, &Limits::default(), &good, NOW).unwrap();
        assert!(spaces.knows(&key));
        spaces.undo(undo);
        assert!(!spaces.knows(&key) && spaces.records.is_empty());
        assert_eq!(spaces.next_at(), None);
    }

    #[test]
    fn a_refused_write_leaves_no_trace() {
        let (mut spaces, key) = (spaces(), RecordKey::new("/sr/a"));
        write(&mut spaces, &key, Write::Merge(says("x"), HOUR));
        let before = spaces.record(&key, NOW);
        let again = Write::Merge(says("y"), HOUR);
        let (_, _, undo) = spaces.write(&key, &Limits::default(), &again, NOW).unwrap();
        assert_ne!(spaces.record(&key, NOW), before);
        spaces.undo(undo);
        assert_eq!(spaces.record(&key, NOW), before);
    }
}
