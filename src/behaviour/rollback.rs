//! The highest position seen of each writer, to detect withheld and rolled back updates.
//!
//! **Invariants.** The position of a writer under a key only rises while it is remembered. The
//! number of writers is bounded, and with it that of keys, because a key is remembered only with a
//! writer. A space that was withdrawn when it was last seen is not reported if nothing of it is
//! found: replicas evict withdrawn spaces by their age, which a reader does not know. A read is
//! compared with what had been seen when it began: what was written meanwhile its holders may not
//! have had when they answered. The least recently used keys are forgotten first. Keys that this
//! node reads for its upkeep take no room from keys that the application has asked for.

use std::{collections::BTreeMap, sync::Arc};

use hashlink::LruCache;

use crate::query::Withheld;
use smart_record_core::{Position, RecordKey, SmartRecord, Timestamp, Writer};

/// Share of the writers that are remembered of what only this node's own upkeep reads: one of so
/// many.
const UPKEEP: usize = 4;

/// The newest updates seen, by key and writer.
#[derive(Debug)]
pub(super) struct RollbackMemory {
    /// Positions under keys that the application has asked for.
    asked: Positions,
    /// Positions under keys that were only read for replication.
    upkeep: Positions,
}

/// What had been seen of a record when a read of it began. Shared with the memory until that
/// changes.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenBefore(Option<Arc<OfKey>>);

impl RollbackMemory {
    pub(super) fn new(max: usize) -> Self {
        Self { asked: Positions::new(max), upkeep: Positions::new(max / UPKEEP) }
    }

    /// What has been seen of a record, when a read of it begins.
    pub(super) fn seen(&self, key: &RecordKey) -> SeenBefore {
        SeenBefore(self.asked.keys.peek(key).or_else(|| self.upkeep.keys.peek(key)).cloned())
    }

    /// Remembers the positions of a record, which was read for `upkeep` or because the application
    /// has asked. Returns the writers whose newest update in it is older than one seen `before` the
    /// read, of those about whom the record `tells` all that there is, and that are still
    /// remembered.
    pub(super) fn observe(
        &mut self,
        record: &SmartRecord,
        upkeep: bool,
        before: &SeenBefore,
        tells: impl Fn(&Writer) -> bool,
        now: Timestamp,
    ) -> Vec<Withheld> {
        if !upkeep && let Some(known) = self.upkeep.take(record.key()) {
            self.asked.add(record.key(), known);
        }
        let is_asked = !upkeep || self.asked.keys.contains_key(record.key());
        let memory = if is_asked { &mut self.asked } else { &mut self.upkeep };
        memory.observe(record, before, tells, now)
    }

    /// Number of writers that are remembered, and how many were forgotten because there were too
    /// many.
    pub(super) const fn counts(&self) -> (usize, u64) {
        let forgotten = self.asked.forgotten.saturating_add(self.upkeep.forgotten);
        (self.asked.writers.saturating_add(self.upkeep.writers), forgotten)
    }

    /// Forgets a writer under a key.
    pub(super) fn forget(&mut self, key: &RecordKey, writer: &Writer) {
        self.asked.forget(key, writer);
        self.upkeep.forget(key, writer);
    }
}

type OfKey = BTreeMap<Writer, Seen>;

/// What was seen of a space.
#[derive(Clone, Copy, Debug)]
struct Seen {
    newest: Position,
    retain_until: Timestamp,
    /// Whether it was withdrawn when the newest update was seen.
    is_withdrawn: bool,
}

/// Positions of a bounded number of writers.
#[derive(Debug)]
struct Positions {
    keys: LruCache<RecordKey, Arc<OfKey>>,
    writers: usize,
    max: usize,
    forgotten: u64,
}

impl Positions {
    fn new(max: usize) -> Self {
        Self { keys: LruCache::new_unbounded(), writers: 0, max, forgotten: 0 }
    }

    fn take(&mut self, key: &RecordKey) -> Option<Arc<OfKey>> {
        let known = self.keys.remove(key)?;
        self.writers = self.writers.saturating_sub(known.len());
        Some(known)
    }

    /// Adds a key that is not remembered.
    fn add(&mut self, key: &RecordKey, known: Arc<OfKey>) {
        self.writers = self.writers.saturating_add(known.len());
        self.keys.insert(key.clone(), known);
    }

    fn observe(
        &mut self,
        record: &SmartRecord,
        before: &SeenBefore,
        tells: impl Fn(&Writer) -> bool,
        now: Timestamp,
    ) -> Vec<Withheld> {
        let withheld = self.compare(record, before, tells, now);
        if record.spaces().len() == 0 && self.keys.peek(record.key()).is_none() {
            return withheld;
        }
        let entry = self.keys.entry(record.key().clone()).or_insert_with(Arc::default);
        let entry = Arc::make_mut(entry);
        let before = entry.len();
        entry.retain(|_, seen| seen.retain_until > now);
        for (writer, space) in record.spaces() {
            if let Some((newest, retain_until)) = space.newest().zip(space.retain_until()) {
                let seen = Seen { newest, retain_until, is_withdrawn: space.is_withdrawn() };
                let known = entry.entry(writer.clone()).or_insert(seen);
                let retain_until = retain_until.max(known.retain_until);
                let latest = if newest < known.newest { *known } else { seen };
                *known = Seen { retain_until, ..latest };
            }
        }
        let after = entry.len();
        self.writers = self.writers.saturating_add(after).saturating_sub(before);
        if after == 0 {
            self.keys.remove(record.key());
        }
        while self.writers > self.max
            && let Some((_, oldest)) = self.keys.remove_lru()
        {
            self.writers = self.writers.saturating_sub(oldest.len());
            let forgotten = u64::try_from(oldest.len()).unwrap_or(u64::MAX);
            self.forgotten = self.forgotten.saturating_add(forgotten);
        }
        withheld
    }

    fn forget(&mut self, key: &RecordKey, writer: &Writer) {
        let entry = self.keys.peek_mut(key).map(Arc::make_mut);
        if entry.is_some_and(|entry| entry.remove(writer).is_some()) {
            self.writers = self.writers.saturating_sub(1);
        }
    }

    /// The writers whose newest update in `record` is older than one seen `before` that would still
    /// be retained.
    fn compare(
        &self,
        record: &SmartRecord,
        before: &SeenBefore,
        tells: impl Fn(&Writer) -> bool,
        now: Timestamp,
    ) -> Vec<Withheld> {
        let Some((before, remembered)) = before.0.as_ref().zip(self.keys.peek(record.key())) else {
            return Vec::new();
        };
        let is_remembered = |writer: &Writer| remembered.contains_key(writer);
        let live = before.iter().filter(|(_, seen)| seen.retain_until > now);
        live.filter(|(writer, _)| is_remembered(writer))
            .filter_map(|(writer, seen)| {
                let found = record.space(writer).and_then(|space| space.newest());
                let is_less = found < Some(seen.newest) && (found.is_some() || !seen.is_withdrawn);
                (is_less && tells(writer)).then(|| Withheld {
                    writer: writer.peer_id(),
                    known: seen.newest.seq,
                    found: found.map(|position| position.seq),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use smart_record_core::{Limits, SpaceSigner};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    const fn all(_: &Writer) -> bool {
        true
    }

    /// A read during which nothing else was seen.
    fn see(
        known: &mut RollbackMemory,
        record: &SmartRecord,
        upkeep: bool,
        now: Timestamp,
    ) -> Vec<Withheld> {
        known.observe(record, upkeep, &known.seen(record.key()), all, now)
    }

    fn signer(key: &str) -> SpaceSigner {
        let mut signer =
            SpaceSigner::new(key.into(), Keypair::generate_ed25519(), Limits::default());
        // It has never written before, so no older update has to be outlived.
        signer.resume(&SmartRecord::new(key.into()));
        signer
    }

    fn says(signer: &mut SpaceSigner, text: &str) -> SmartRecord {
        signer.merge([("text", text)].into_iter().collect(), NOW, MINUTE).unwrap();
        signer.record(NOW)
    }

    #[test]
    fn a_rollback_is_detected_until_the_hidden_update_expires() {
        let (mut known, mut alice) = (RollbackMemory::new(10), signer("/sr/a"));
        let old = says(&mut alice, "old");
        let new = says(&mut alice, "new");
        let (seq_of, alice) = (
            |record: &SmartRecord| record.spaces().next().unwrap().1.newest().unwrap().seq,
            alice.writer().peer_id(),
        );
        assert_eq!(see(&mut known, &old, false, NOW), []);
        assert_eq!(see(&mut known, &new, false, NOW), []);
        let rollback = Withheld { writer: alice, known: seq_of(&new), found: Some(seq_of(&old)) };
        assert_eq!(see(&mut known, &old, false, NOW), [rollback]);
        let nothing = SmartRecord::new("/sr/a".into());
        let silence = Withheld { writer: alice, known: seq_of(&new), found: None };
        assert_eq!(see(&mut known, &nothing, false, NOW), [silence]);
        assert_eq!(see(&mut known, &nothing, false, NOW.saturating_add(MINUTE)), []);
    }

    #[test]
    fn a_read_is_compared_with_what_had_been_seen_when_it_began() {
        let (mut known, mut alice) = (RollbackMemory::new(10), signer("/sr/a"));
        let key = RecordKey::new("/sr/a");
        let [old, new, newest] = ["old", "new", "newest"].map(|text| says(&mut alice, text));
        let nothing = SmartRecord::new(key.clone());
        let seq_of = |record: &SmartRecord| record.spaces().next().unwrap().1.newest().unwrap().seq;
        let unknown = known.seen(&key);
        see(&mut known, &old, true, NOW);
        let before = known.seen(&key);
        // Two more updates are seen while two reads are under way, also by the application.
        see(&mut known, &new, true, NOW);
        see(&mut known, &newest, false, NOW);
        for late in [&nothing, &old, &new] {
            assert_eq!(known.observe(late, false, &unknown, all, NOW), []);
        }
        for late in [&old, &new] {
            assert_eq!(known.observe(late, false, &before, all, NOW), []);
        }
        let missing = known.observe(&nothing, false, &before, all, NOW);
        assert_eq!(missing.iter().map(|it| it.known).collect::<Vec<_>>(), [seq_of(&old)]);
        // The next read misses what was excused then.
        for (late, found) in [(&nothing, None), (&new, Some(seq_of(&new)))] {
            let missing = see(&mut known, late, false, NOW);
            let missing: Vec<_> = missing.iter().map(|it| (it.known, it.found)).collect();
            assert_eq!(missing, [(seq_of(&newest), found)]);
        }
        // What is forgotten during a read is not missed.
        let before = known.seen(&key);
        known.forget(&key, &alice.writer());
        assert_eq!(known.observe(&nothing, false, &before, all, NOW), []);
    }

    #[test]
    fn a_withdrawn_space_is_not_missed_but_what_it_has_withdrawn_is_noticed() {
        let (mut known, mut alice) = (RollbackMemory::new(10), signer("/sr/a"));
        let said = says(&mut alice, "said");
        alice.withdraw(NOW).unwrap();
        let withdrawn = alice.record(NOW);
        let nothing = SmartRecord::new("/sr/a".into());
        see(&mut known, &said, false, NOW);
        assert_eq!(see(&mut known, &nothing, false, NOW).len(), 1);
        see(&mut known, &withdrawn, false, NOW);
        // It may have been evicted for one that was stored earlier.
        assert_eq!(see(&mut known, &nothing, false, NOW), []);
        assert_eq!(see(&mut known, &said, false, NOW).len(), 1, "a rollback");
        assert_eq!(see(&mut known, &nothing, false, NOW), [], "it is still known as withdrawn");
        let again = says(&mut alice, "again");
        see(&mut known, &again, false, NOW);
        assert_eq!(see(&mut known, &nothing, false, NOW).len(), 1);
    }

    #[test]
    fn empty_keys_are_not_remembered() {
        let mut known = RollbackMemory::new(10);
        for n in 0..1_000 {
            see(&mut known, &SmartRecord::new(format!("/sr/{n}").as_str().into()), false, NOW);
        }
        assert_eq!(known.asked.keys.len(), 0);
        let mut alice = signer("/sr/a");
        let record = says(&mut alice, "x");
        see(&mut known, &record, false, NOW);
        assert_eq!((known.asked.keys.len(), known.asked.writers), (1, 1));
        see(&mut known, &SmartRecord::new("/sr/a".into()), false, NOW.saturating_add(MINUTE));
        assert_eq!(
            (known.asked.keys.len(), known.asked.writers),
            (0, 0),
            "keys with expired updates only are forgotten"
        );
    }

    #[test]
    fn memory_is_bounded_and_the_least_recently_used_keys_are_forgotten() {
        let mut known = RollbackMemory::new(2);
        let records: Vec<_> =
            ["/sr/a", "/sr/b", "/sr/c"].map(|key| says(&mut signer(key), "x")).into();
        for record in &records {
            see(&mut known, record, false, NOW);
        }
        assert_eq!((known.asked.keys.len(), known.asked.writers), (2, 2));
        assert_eq!(known.counts(), (2, 1));
        let nothing = |key: &str| SmartRecord::new(key.into());
        assert_eq!(see(&mut known, &nothing("/sr/a"), false, NOW), [], "forgotten");
        assert_eq!(see(&mut known, &nothing("/sr/c"), false, NOW).len(), 1);
    }

    #[test]
    fn what_is_read_for_upkeep_pushes_out_nothing_that_was_asked_for() {
        let mut known = RollbackMemory::new(4);
        let mut asked = signer("/sr/asked");
        let old = says(&mut asked, "old");
        let new = says(&mut asked, "new");
        see(&mut known, &new, false, NOW);
        let mut of_upkeep = signer("/sr/upkeep");
        let (older, newer) = (says(&mut of_upkeep, "old"), says(&mut of_upkeep, "new"));
        for n in 0..100 {
            see(&mut known, &says(&mut signer(&format!("/sr/{n}")), "x"), true, NOW);
        }
        see(&mut known, &newer, true, NOW);
        assert_eq!((known.asked.writers, known.upkeep.writers), (1, 1));
        // Both are found out, whoever asks, and what is asked for stays from then on.
        assert_eq!(see(&mut known, &old, true, NOW).len(), 1);
        assert_eq!(see(&mut known, &older, false, NOW).len(), 1);
        assert_eq!((known.asked.writers, known.upkeep.writers), (2, 0));
        assert_eq!(see(&mut known, &older, true, NOW).len(), 1);
        known.forget(&"/sr/upkeep".into(), &of_upkeep.writer());
        assert_eq!(known.asked.writers, 1);
    }
}
