//! Signer of updates: sets `seq` and `retain_until` correctly.
//!
//! **Invariants.** `seq` grows with every update. `retain_until` never decreases, so an update
//! outlives everything that it hides, and withdrawn content does not come back. No update drops
//! content to make room: the space is compacted, or the update is refused.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Signing".

use std::time::Duration;

use libp2p_identity::Keypair;

use super::{
    SmartRecord,
    extensions::Extensions,
    history::SigningHistory,
    limits::{Limit, LimitExceeded, Limits, ZeroLifetime},
    parts::{halves, inheriting},
    seq::Seq,
    space::Space,
    stamp::{Stamp, StampSearch, Stamps},
    update::{SignError, SignedUpdate, Update, UpdateError, UpdateKind},
    writer::Writer,
};
use crate::{
    key::RecordKey,
    node::{Dict, merge_documents, resolve_document, visible_document},
    time::Timestamp,
};

/// Signs the updates of one writer under one key.
///
/// A new signer does not know earlier updates. Its first update, and all that follow, are therefore
/// retained for as long as any earlier one could be: [`max_ttl`](Limits::max_ttl) from the first.
/// Otherwise a longer-lived update from before a restart could come back after the new one expires.
///
/// To avoid this, call [`SpaceSigner::resume`] with the record read from the network before the
/// first write. Then updates are retained no longer than necessary, and `seq` comes after all
/// earlier updates. A writer that has never written under the key resumes from an empty record.
///
/// ```
/// use std::time::Duration;
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Dict, Limits, RecordKey, SpaceSigner, Timestamp};
///
/// let mut signer = SpaceSigner::new(
///     RecordKey::new("/sr/rooms/lobby"),
///     Keypair::generate_ed25519(),
///     Limits::default(),
/// );
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let document: Dict = [("text", "hello")].into_iter().collect();
/// let update = signer.merge(document, now, Duration::from_secs(60))?;
/// assert_eq!(update.expires_at(), now.saturating_add(Duration::from_secs(60)));
///
/// // What goes to the network.
/// let value = signer.record(now).encode();
/// # assert!(!value.is_empty());
/// # Ok::<(), smart_record_core::SignError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpaceSigner {
    key: RecordKey,
    keypair: Keypair,
    limits: Limits,
    history: SigningHistory,
    /// The known updates of the writer.
    space: Space,
    /// Added to the updates for which they are good.
    stamps: Stamps,
}

impl SpaceSigner {
    /// A signer for the space of the peer of `keypair` under `key`. `limits` must be those of the
    /// replicas.
    pub const fn new(key: RecordKey, keypair: Keypair, limits: Limits) -> Self {
        let history = SigningHistory::new(limits.max_ttl(), limits.max_clock_skew());
        Self { key, keypair, limits, history, space: Space::new(), stamps: Stamps::new() }
    }

    /// The key of the record.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The writer of the space.
    pub fn writer(&self) -> Writer {
        Writer::from(&self.keypair.public())
    }

    /// Adds the writer's earlier updates in `record`, so that new updates come after and outlive
    /// them. Assumes that there are no others: join the answers of several replicas first, and use
    /// [`learn`](Self::learn) for an incomplete reading. A record of another key is ignored.
    ///
    /// A full record without the writer's space is treated as incomplete: replicas send the lowest
    /// ranks only, and a replica that protects the writer holds its space in addition.
    pub fn resume(&mut self, record: &SmartRecord) {
        self.learn(record);
        let has_room = !record.is_full(&self.limits);
        if *record.key() == self.key && (has_room || record.space(&self.writer()).is_some()) {
            self.history.complete();
        }
    }

    /// Adds the writer's earlier updates in `record` and assumes that there may be others. New
    /// updates come after these, and still outlive any unknown ones. A record of another key is
    /// ignored.
    pub fn learn(&mut self, record: &SmartRecord) {
        if *record.key() == self.key
            && let Some(space) = record.space(&self.writer())
        {
            self.space.join(space.clone());
            learn(&mut self.history, space);
        }
    }

    /// A search for a stamp of this many bits for the updates that are signed on the day of `now`,
    /// in UTC. Run it in steps, where and for as long as you like, and give what it finds to
    /// [`set_stamp`](Self::set_stamp).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use libp2p_identity::Keypair;
    /// # use smart_record_core::{Dict, Limits, SpaceSigner, Timestamp};
    /// # let limits = Limits::default();
    /// # let mut signer = SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), limits);
    /// # let now = Timestamp::from_millis(1_700_000_000_000);
    /// let mut search = signer.stamp_search(8, now);
    /// while !signer.has_stamp(8, now) {
    ///     signer.set_stamp(search.step(1_000));
    /// }
    /// let update = signer.merge(Dict::new(), now, Duration::from_secs(60))?;
    /// assert_eq!(update.work(&signer.writer().rank(signer.key())), 8);
    /// # Ok::<(), smart_record_core::SignError>(())
    /// ```
    pub fn stamp_search(&self, bits: u8, now: Timestamp) -> StampSearch {
        StampSearch::new(self.rank(), self.next_seq(now), bits)
    }

    /// Adds a stamp to all updates that are signed from now on and for which it is good, which are
    /// those of one day, in UTC. So set a new one each day, early: the one that was set before is
    /// kept, and each update gets the better one of those that are good for it. One that is good
    /// for no update, because it is of another key, writer or day, is ignored. `None`: no more
    /// updates have a stamp.
    pub fn set_stamp(&mut self, stamp: Option<Stamp>) {
        self.stamps.set(stamp);
    }

    /// Replaces the stamps.
    pub const fn set_stamps(&mut self, stamps: Stamps) {
        self.stamps = stamps;
    }

    /// Whether an update that is signed at `now` has a stamp of at least this many bits.
    pub fn has_stamp(&self, bits: u8, now: Timestamp) -> bool {
        self.stamps.work(&self.rank(), self.next_seq(now)) >= bits
    }

    fn rank(&self) -> [u8; 32] {
        self.writer().rank(&self.key)
    }

    fn next_seq(&self, now: Timestamp) -> Seq {
        Seq::next(self.space.newest().map(|newest| newest.seq), now)
    }

    /// Whether signing fails at `now` because the last update is from the future: it was signed
    /// with a clock that was ahead of this one by more than replicas allow.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.history.is_ahead(now)
    }

    /// Forgets the updates that make the signer [ahead](Self::is_ahead) of `now`. Use it after the
    /// clock was corrected. Replicas refused these updates. The store of this node may have
    /// accepted them and must then forget the space too. The next update is retained as by a new
    /// signer.
    ///
    /// Look up the record first, to be sure that the earlier clock was wrong and not the current
    /// one.
    pub fn forget_future(&mut self, now: Timestamp) {
        if self.is_ahead(now) {
            self.space.forget_after(self.history.latest(now));
            self.history.forget();
            learn(&mut self.history, &self.space);
        }
    }

    /// The known updates of the writer, including those past their `retain_until`.
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// The record to put: all known updates of the writer that are still retained at `now`. A
    /// replica that missed an earlier update gets it with the new one.
    pub fn record(&self, now: Timestamp) -> SmartRecord {
        let mut space = self.space.clone();
        space.collect(now);
        let mut record = SmartRecord::new(self.key.clone());
        record.join_space(self.writer(), space);
        record
    }

    /// Signs an update that merges `document` into the space. Its nodes expire `ttl` after `now`,
    /// or earlier if they have an earlier time of their own.
    ///
    /// If the space has no room for one more update, the space is compacted: replaced with its
    /// content and `document`, in as few updates as possible. Returns the last of them.
    ///
    /// # Errors
    /// [`SignError`] if replicas would refuse the update (too large, `ttl` too long), `ttl` is zero
    /// ([`ZeroLifetime`]), or the key cannot sign. [`Limit::CLOCK_SKEW`] if the signer [is
    /// ahead](Self::is_ahead) of `now`. [`Limit::SPACE_BYTES`] or [`Limit::UPDATES_PER_SPACE`] if
    /// the space has no room for its content and `document`. On an error the signer is unchanged:
    /// no content is ever dropped to make room.
    pub fn merge(
        &mut self,
        document: Dict,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<SignedUpdate, SignError> {
        let expires_at = now.saturating_add(ttl);
        match self.update(UpdateKind::Merge, document.clone(), now, expires_at) {
            Err(SignError::Update(UpdateError::Limit(exceeded)))
                if [Limit::SPACE_BYTES, Limit::UPDATES_PER_SPACE].contains(&exceeded.limit) =>
            {
                let content = self.space.view(now).map(|view| (view.document, view.expires_at));
                let document = resolve_document(visible_document(document, now), expires_at);
                let all = content.into_iter().chain([(document, expires_at)]);
                match self.sign_all(UpdateKind::Replace, all, now) {
                    // The document fits into an update. What does not is a part of the content with
                    // an expiry of its own beside it.
                    Err(SignError::Update(UpdateError::Limit(part))) if is_too_large(&part) => {
                        Err(UpdateError::from(exceeded).into())
                    }
                    signed => signed,
                }
            }
            signed => signed,
        }
    }

    /// Signs an update that replaces the whole content of the space with `document`.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`].
    pub fn replace(
        &mut self,
        document: Dict,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<SignedUpdate, SignError> {
        self.update(UpdateKind::Replace, document, now, now.saturating_add(ttl))
    }

    /// Signs an update that withdraws the whole content of the space. Replicas retain it until the
    /// last update that it hides may be collected. If the signer does not know the whole space
    /// ([`resume`](Self::resume)), they retain it for [`max_ttl`](Limits::max_ttl), 48 hours by
    /// default, because a replica may hold an update from before a restart.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`].
    pub fn withdraw(&mut self, now: Timestamp) -> Result<SignedUpdate, SignError> {
        let expires_at = Timestamp::EPOCH;
        self.sign(UpdateKind::Replace, Dict::new(), now, expires_at, |history, seq| {
            history.retain_withdrawal_until(seq)
        })
    }

    fn update(
        &mut self,
        kind: UpdateKind,
        document: Dict,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        if expires_at <= now {
            return Err(ZeroLifetime.into());
        }
        self.sign(kind, document, now, expires_at, |history, seq| {
            history.retain_until(seq).max(expires_at)
        })
    }

    /// Merges these resolved documents and signs them in as few updates as possible. Returns the
    /// last update. On an error the signer is unchanged.
    pub(super) fn sign_all(
        &mut self,
        kind: UpdateKind,
        documents: impl Iterator<Item = (Dict, Timestamp)>,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let all = documents.reduce(|(all, ends_at), (more, until)| {
            (merge_documents(all, more), ends_at.max(until))
        });
        let (document, ends_at) = all.unwrap_or_default();
        let mut attempt = self.clone();
        let last = attempt.sign_parts(kind, inheriting(document, ends_at), now, ends_at)?;
        *self = attempt;
        Ok(last)
    }

    /// Signs a document in one update, or in several if it is too large. Returns the last update.
    fn sign_parts(
        &mut self,
        kind: UpdateKind,
        document: Dict,
        now: Timestamp,
        ends_at: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        match self.update(kind, document.clone(), now, ends_at) {
            Err(SignError::Update(UpdateError::Limit(exceeded))) if is_too_large(&exceeded) => {
                let Some((first, second)) = halves(document) else {
                    return Err(UpdateError::from(exceeded).into());
                };
                self.sign_parts(kind, first, now, ends_at)?;
                self.sign_parts(UpdateKind::Merge, second, now, ends_at)
            }
            signed => signed,
        }
    }

    /// Signs an update that is retained until `retain_until`. Refuses one for which replicas would
    /// drop another one.
    fn sign(
        &mut self,
        kind: UpdateKind,
        document: Dict,
        now: Timestamp,
        expires_at: Timestamp,
        retain_until: impl FnOnce(&SigningHistory, Seq) -> Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let seq = self.history.next(now).map_err(UpdateError::from)?;
        let retain_until = retain_until(&self.history, seq);
        let mut extensions = Extensions::new();
        if let Some(stamp) = self.stamps.best(&self.rank(), seq) {
            let stamped = extensions.with(Stamp::FIELD, stamp.encode());
            extensions = stamped.map_err(UpdateError::from)?;
        }
        let update = Update { seq, expires_at, retain_until, kind, document, extensions };
        let signed = update.sign(&self.key, &self.keypair, &self.limits)?;
        let mut space = self.space.clone();
        space.collect(now);
        space.insert(signed.clone());
        space.check(&self.limits).map_err(UpdateError::from)?;
        self.space = space;
        self.history.signed(seq, retain_until);
        Ok(signed)
    }
}

/// Whether a document is too large for one update.
fn is_too_large(exceeded: &LimitExceeded) -> bool {
    [Limit::UPDATE_BYTES, Limit::DOCUMENT_NODES].contains(&exceeded.limit)
}

fn learn(history: &mut SigningHistory, space: &Space) {
    if let Some((newest, retain_until)) = space.newest().zip(space.retain_until()) {
        history.learn(newest.seq, retain_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::List;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A signer of a writer that has never written.
    fn signer(keypair: &Keypair) -> SpaceSigner {
        let mut signer = restarted(keypair);
        signer.resume(&SmartRecord::new("/sr/a".into()));
        signer
    }

    /// A signer of a writer that may have written before.
    fn restarted(keypair: &Keypair) -> SpaceSigner {
        SpaceSigner::new("/sr/a".into(), keypair.clone(), Limits::default())
    }

    fn says(text: &str) -> Dict {
        [("text", text)].into_iter().collect()
    }

    #[test]
    fn a_stamp_stands_in_all_updates_of_its_day_and_in_no_others() {
        let midnight = Timestamp::from_millis(20_000 * 86_400_000);
        let before = midnight.saturating_sub(HOUR);
        // A stamp may be good on another day by chance, so the key is always the same.
        let mut signer = signer(&Keypair::ed25519_from_bytes([7; 32]).unwrap());
        let rank = signer.rank();
        assert!(signer.has_stamp(0, before) && !signer.has_stamp(1, before));
        signer.set_stamp(signer.stamp_search(6, before).step(1 << 20));
        assert!(signer.has_stamp(6, before) && !signer.has_stamp(7, before));
        assert!(!signer.has_stamp(1, midnight));
        let mut works = Vec::new();
        for now in [before, midnight.saturating_sub(Duration::from_millis(1)), midnight] {
            works.push(signer.merge(says("1"), now, HOUR).unwrap().work(&rank));
            works.push(signer.withdraw(now).unwrap().work(&rank));
        }
        assert_eq!(works, [6, 6, 6, 6, 0, 0]);
        // A withdrawal with a stamp is one all the same.
        assert!(signer.space().is_withdrawn());
        // What a compaction signs has it too.
        signer.set_stamp(signer.stamp_search(5, midnight).step(1 << 20));
        for n in 0..70_u32 {
            signer.merge(says(&n.to_string()), midnight, HOUR).unwrap();
        }
        assert!(signer.space().newest_replace().is_some());
        assert!(signer.space().updates().all(|update| update.work(&rank) == 5));
    }

    #[test]
    fn the_stamp_that_was_set_before_is_in_use_until_its_day_is_over() {
        let midnight = Timestamp::from_millis(20_000 * 86_400_000);
        let before = midnight.saturating_sub(HOUR);
        let mut signer = signer(&Keypair::ed25519_from_bytes([7; 32]).unwrap());
        let rank = signer.rank();
        let stamp =
            |signer: &SpaceSigner, bits, now| signer.stamp_search(bits, now).step(1 << 20).unwrap();
        let [today, better, tomorrow] =
            [(6, before), (7, before), (5, midnight)].map(|(bits, now)| stamp(&signer, bits, now));
        for stamp in [today, tomorrow, tomorrow] {
            signer.set_stamp(Some(stamp));
        }
        let work = |signer: &SpaceSigner| {
            [before, midnight].map(|now| {
                let mut signer = signer.clone();
                signer.merge(says("1"), now, HOUR).unwrap().work(&rank)
            })
        };
        assert_eq!(work(&signer), [6, 5]);
        assert!(signer.has_stamp(6, before) && !signer.has_stamp(6, midnight));
        signer.set_stamp(Some(better));
        assert_eq!(work(&signer), [7, 5]);
        signer.set_stamp(Some(today));
        assert_eq!(work(&signer), [7, 0], "two are kept, and the better one is used");
        signer.set_stamp(None);
        assert_eq!(work(&signer), [0, 0]);
    }

    #[test]
    fn retention_never_decreases_and_seq_grows() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut signer = signer(&Keypair::generate_ed25519());
        let long = signer.merge(says("long"), now, HOUR).unwrap();
        let short = signer.merge(says("short"), now, Duration::from_secs(1)).unwrap();
        assert!(short.position() > long.position());
        assert_eq!(short.retain_until(), long.retain_until());
        assert_eq!(signer.record(now).spaces().next().unwrap().1.updates().len(), 2);
        assert_eq!(signer.record(now.saturating_add(HOUR)).spaces().len(), 0);
    }

    #[test]
    fn a_full_space_is_compacted_and_keeps_all_of_its_content() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let (mut signer, minute) = (signer(&keypair), Duration::from_secs(60));
        let wide = Limits::default().with_updates_per_space(1_000).with_space_bytes(1 << 20);
        let mut unbounded = SpaceSigner::new("/sr/a".into(), keypair, wide);
        let mut compacted = 0;
        for n in 0..70_u32 {
            let at = now.saturating_add(n * Duration::from_secs(5));
            let text = "x".repeat(usize::try_from(n % 7).unwrap() * 80);
            let document: Dict = format!(
                r#"{{"n": {n}, "k{}": "{text}", "d": {{"k{}": {n}}}, "s": {{"/": {{"set": [{}]}}}}}}"#,
                n % 5, n % 9, n % 30,
            )
            .parse()
            .unwrap();
            let ttl = minute * (1 + n % 10);
            let before = signer.space().updates().len();
            signer.merge(document.clone(), at, ttl).unwrap();
            unbounded.merge(document, at, ttl).unwrap();
            compacted += u32::from(signer.space().updates().len() <= before);
            for later in [0, 100] {
                let later = at.saturating_add(Duration::from_secs(later));
                let said = |signer: &SpaceSigner| {
                    signer.space().view(later).map(|view| (view.document, view.expires_at))
                };
                assert_eq!(said(&signer), said(&unbounded), "{n}");
            }
        }
        assert!((1..35).contains(&compacted), "{compacted}");
        let mut all = signer.space().clone();
        assert_eq!(all.truncate(&Limits::default()), 0);
    }

    #[test]
    fn content_that_does_not_fit_is_refused_and_drops_nothing() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let large = |name: usize| Dict::from([(name.to_string(), "x".repeat(1_900))]);
        let mut signer = signer(&Keypair::generate_ed25519());
        let mut taken = 0;
        let refused = loop {
            match signer.merge(large(taken), now, HOUR) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        let SignError::Update(UpdateError::Limit(exceeded)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((exceeded.limit, exceeded.max), (Limit::SPACE_BYTES, 8 * 1_024));
        assert!(exceeded.got.unwrap() > exceeded.max);
        let said = |signer: &SpaceSigner| signer.space().view(now).unwrap().document.len();
        assert_eq!((taken, said(&signer)), (5, 5));
        // Content in the place of other content fits, and so does less.
        signer.merge(large(0), now, HOUR).unwrap();
        assert_eq!(said(&signer), 5);
        signer.replace(large(9), now, HOUR).unwrap();
        assert_eq!(said(&signer), 1);
        // The number of updates alone is no hindrance, as they are compacted.
        let few = Limits::default().with_updates_per_space(1).with_update_bytes(100);
        let mut signer = SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), few);
        let small = |name: usize| Dict::from([(name.to_string(), "x".repeat(40))]);
        signer.merge(small(0), now, HOUR).unwrap();
        signer.merge(small(1), now, HOUR).unwrap();
        assert_eq!((said(&signer), signer.space().updates().len()), (2, 2));
        let refused = signer.merge(small(2), now, HOUR);
        assert!(
            matches!(&refused, Err(SignError::Update(UpdateError::Limit(it))) if
                *it == LimitExceeded::new(Limit::UPDATES_PER_SPACE, 2, 1)),
            "{refused:?}"
        );
        assert_eq!(said(&signer), 2);
    }

    #[test]
    fn a_space_without_room_is_told_as_such_also_if_a_part_fits_into_no_update_any_more() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let list = |bytes: usize| Dict::from([("list", List::from(["x".repeat(bytes)]))]);
        let fits = |bytes: usize| {
            signer(&Keypair::generate_ed25519()).merge(list(bytes), now, HOUR).is_ok()
        };
        let largest = (0..4_096).rev().find(|bytes| fits(*bytes)).unwrap();
        let mut signer = signer(&Keypair::generate_ed25519());
        signer.merge(list(largest), now, HOUR).unwrap();
        let refused = (0..9).find_map(|n: usize| {
            let document = Dict::from([(n.to_string(), "x".repeat(1_900))]);
            signer.merge(document, now, 2 * HOUR).err()
        });
        let Some(SignError::Update(UpdateError::Limit(exceeded))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(exceeded.limit, Limit::SPACE_BYTES);
    }

    #[test]
    fn nothing_is_signed_that_replicas_would_take_for_the_future() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut signer = signer(&Keypair::generate_ed25519());
        let skew = Limits::default().max_clock_skew();
        // With a clock ahead by the allowed skew, and then by a millisecond more.
        signer.merge(says("ahead"), now.saturating_add(skew), HOUR).unwrap();
        let earlier = now.saturating_add(Duration::from_millis(1));
        signer.merge(says("still taken"), earlier, HOUR).unwrap();
        let before = signer.record(now);
        let limit =
            LimitExceeded::of_duration(Limit::CLOCK_SKEW, skew + Duration::from_millis(1), skew);
        let just_before = Timestamp::from_millis(now.as_millis() - 1);
        for signed in [signer.merge(says("x"), just_before, HOUR), signer.withdraw(just_before)] {
            assert_eq!(signed, Err(UpdateError::from(limit.clone()).into()));
        }
        assert_eq!(signer.record(now), before);
    }

    #[test]
    fn what_is_written_after_a_restart_outlives_what_was_written_before() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let long = signer(&keypair).merge(says("long"), now, 40 * HOUR).unwrap();
        let (mut after, later) = (restarted(&keypair), now.saturating_add(HOUR));
        for _ in 0..2 {
            let short = after.replace(says("short"), later, Duration::from_secs(1)).unwrap();
            assert_eq!(short.expires_at(), later.saturating_add(Duration::from_secs(1)));
            assert!(short.retain_until() >= long.retain_until());
        }
        // A record of another key is ignored. An empty one of this key shows that there were no
        // updates.
        let mut elsewhere = restarted(&keypair);
        elsewhere.resume(&SmartRecord::new("/sr/b".into()));
        let short = elsewhere.merge(says("1"), later, HOUR).unwrap();
        assert_eq!(short.retain_until(), later.saturating_add(48 * HOUR));
        let short = signer(&keypair).merge(says("1"), later, HOUR).unwrap();
        assert_eq!(short.retain_until(), short.expires_at());
        // Once no earlier update can exist any more, updates are no longer retained for its sake.
        let much_later = later.saturating_add(48 * HOUR);
        let next = after.merge(says("1"), much_later, HOUR).unwrap();
        assert_eq!(next.retain_until(), next.expires_at());
    }

    #[test]
    fn a_full_record_without_the_own_space_does_not_say_that_there_was_none() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let limits = Limits::default().with_spaces_per_record(1);
        let keypair = Keypair::generate_ed25519();
        let board = |keypair: &Keypair| {
            let mut signer = signer(keypair);
            signer.merge(says("x"), now, HOUR).unwrap();
            signer.record(now)
        };
        let (full, mut own) = (board(&Keypair::generate_ed25519()), board(&keypair));
        let retained_for = |record: &SmartRecord| {
            let mut restarted = SpaceSigner::new("/sr/a".into(), keypair.clone(), limits.clone());
            restarted.resume(record);
            let update = restarted.replace(says("new"), now, Duration::from_secs(60)).unwrap();
            update.retain_until().saturating_since(now)
        };
        assert_eq!(retained_for(&full), 48 * HOUR);
        assert_eq!(retained_for(&SmartRecord::new("/sr/a".into())), Duration::from_secs(60));
        assert_eq!(retained_for(&own), HOUR);
        own.join(full).unwrap();
        assert_eq!(retained_for(&own), HOUR);
    }

    #[test]
    fn a_withdrawal_outlives_what_the_signer_has_not_heard_of() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let mut before = signer(&keypair);
        let short = before.merge(says("1"), now, Duration::from_secs(60)).unwrap();
        let mut slice = SmartRecord::new("/sr/a".into());
        slice.insert(before.writer(), short).unwrap();
        let long = before.merge(says("2"), now, 40 * HOUR).unwrap();

        // After a restart, a replica shows only the first of the two updates.
        let mut after = restarted(&keypair);
        after.learn(&slice);
        let withdrawal = after.withdraw(now.saturating_add(HOUR)).unwrap();
        assert!(withdrawal.retain_until() >= long.retain_until());
        assert!(withdrawal.position() > long.position());
    }

    #[test]
    fn case_28_a_withdrawal_goes_with_what_it_hides_if_all_of_that_is_known() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let mut before = signer(&keypair);
        before.merge(says("long"), now, HOUR).unwrap();
        let short = before.merge(says("short"), now, Duration::from_secs(30)).unwrap();
        assert_eq!(before.clone().withdraw(now).unwrap().retain_until(), short.retain_until());
        let mut after = restarted(&keypair);
        after.resume(&before.record(now));
        let withdrawal = after.withdraw(now).unwrap();
        assert_eq!(withdrawal.retain_until(), now.saturating_add(HOUR));
        assert_eq!(after.record(now.saturating_add(HOUR)).spaces().len(), 0, "nothing is left");
        // A second withdrawal, and one of an empty space, are not retained longer.
        let again = after.withdraw(now).unwrap();
        assert_eq!(again.retain_until(), withdrawal.retain_until());
        let nothing = signer(&Keypair::generate_ed25519()).withdraw(now).unwrap();
        assert_eq!(nothing.retain_until(), now.saturating_add(Duration::from_secs(1)));
    }

    #[test]
    fn resuming_comes_after_what_is_known() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let mut before = signer(&keypair);
        let ahead = Limits::default().max_clock_skew() / 2;
        let known = before.merge(says("1"), now.saturating_add(ahead), HOUR).unwrap();
        let mut after = restarted(&keypair);
        after.resume(&before.record(now));
        let next = after.merge(says("2"), now, Duration::from_secs(1)).unwrap();
        assert!(next.seq() > known.seq());
        assert_eq!(next.retain_until(), known.retain_until());

        // Updates of another writer or under another key are ignored.
        let mut other = signer(&Keypair::generate_ed25519());
        other.resume(&before.record(now));
        assert_eq!(other.merge(says("3"), now, HOUR).unwrap().seq(), Seq::next(None, now));
        let mut elsewhere = SpaceSigner::new("/sr/b".into(), keypair, Limits::default());
        elsewhere.resume(&before.record(now));
        assert_eq!(elsewhere.merge(says("4"), now, HOUR).unwrap().seq(), Seq::next(None, now));
    }

    #[test]
    fn what_is_learnt_is_not_taken_for_all_that_there_was() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let keypair = Keypair::generate_ed25519();
        let known = signer(&keypair).merge(says("1"), now, HOUR).unwrap();
        let mut part = SmartRecord::new("/sr/a".into());
        let mut after = restarted(&keypair);
        after.learn(&part);
        part.insert(after.writer(), known.clone()).unwrap();
        after.learn(&part);
        let next = after.replace(says("2"), now, Duration::from_secs(1)).unwrap();
        assert!(next.seq() > known.seq());
        assert_eq!(next.retain_until(), now.saturating_add(48 * HOUR));
        // With a complete history, the next update outlives the learnt one.
        let mut knowing = signer(&keypair);
        knowing.learn(&part);
        let next = knowing.replace(says("3"), now, Duration::from_secs(1)).unwrap();
        assert_eq!(next.retain_until(), known.retain_until());
    }

    #[test]
    fn case_24_what_was_signed_with_a_clock_that_was_ahead_is_forgotten_and_the_rest_stays() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut signer = signer(&Keypair::generate_ed25519());
        let right = signer.merge(says("right"), now, 2 * HOUR).unwrap();
        signer.merge(says("ahead"), now.saturating_add(HOUR), HOUR).unwrap();
        let later = now.saturating_add(Duration::from_secs(60));
        assert!(signer.is_ahead(later));
        assert!(signer.merge(says("x"), later, HOUR).is_err());
        signer.forget_future(later);
        assert!(!signer.is_ahead(later));
        let record = signer.record(later);
        assert_eq!(record.space(&signer.writer()).unwrap().updates().collect::<Vec<_>>(), [&right]);
        let next = signer.replace(says("again"), later, Duration::from_secs(1)).unwrap();
        assert_eq!(next.seq(), Seq::next(None, later));
        // A peer may still send a forgotten update once its time has come.
        assert_eq!(next.retain_until(), later.saturating_add(48 * HOUR));
        // With a correct clock there is nothing to forget.
        let before = signer.clone();
        signer.forget_future(later);
        assert_eq!(signer.record(later), before.record(later));
        assert_eq!(signer.history, before.history);
    }

    #[test]
    fn what_replicas_would_refuse_is_not_signed() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut signer = signer(&Keypair::generate_ed25519());
        let none = signer.merge(says("1"), now, Duration::ZERO);
        assert_eq!(none, Err(ZeroLifetime.into()));
        let long = signer.merge(says("1"), now, 49 * HOUR);
        assert!(matches!(long, Err(SignError::Update(UpdateError::Limit(_)))));
        let large = signer.merge(says(&"x".repeat(2_048)), now, HOUR);
        assert!(matches!(large, Err(SignError::Update(UpdateError::Limit(_)))));
        // The failed attempts left no trace.
        assert_eq!(signer.record(now).spaces().len(), 0);
        assert_eq!(signer.merge(says("1"), now, HOUR).unwrap().seq(), Seq::next(None, now));
    }
}
