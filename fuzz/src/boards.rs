//! A board on three replicas with few slots: writers with and without stamps, evictions and what
//! the stores remember of them, answers with coverage, and reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arbitrary::Arbitrary;
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, GetRecordOk, KBucketKey, PeerRecord, Record, RecordKey as KadKey,
    store::RecordStore,
};
use libp2p_smart_record::{
    Arcs, Clock, Coverage, Dict, Limits, Open, Position, RecordKey, Registry, RingArc, SmartRecord,
    Space, SpaceRules, SpaceSigner, Timestamp, Writer,
    query::{ReadStep, RecordReader},
    store::{Asker, MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::keys::keypair;

use crate::{clock::ManualClock, now};

/// A step.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A writer signs, and sends the update to some replicas.
    Sign {
        by: u8,
        kind: Kind,
        /// Seconds.
        ttl: u8,
        text: u8,
        to: u8,
    },
    /// A writer finds a stamp for its next updates, or has none any more.
    Stamp {
        by: u8,
        bits: u8,
    },
    /// An update is sent again.
    Deliver {
        update: u8,
        to: u8,
    },
    /// Milliseconds.
    Wait(u16),
    Collect(u8),
    /// Somebody reads from all replicas, of which one may lie.
    Read {
        asker: u8,
        complete_at: u8,
        liar: Option<u8>,
    },
}

/// What is signed.
#[derive(Arbitrary, Debug)]
pub enum Kind {
    Merge,
    Replace,
    Withdraw,
}

const REPLICAS: usize = 3;
const WRITERS: u8 = 10;
const MAX_BITS: u8 = 5;

fn limits() -> Limits {
    Limits::default()
        .with_spaces_per_record(4)
        .with_min_stamp_bits(2)
        .with_withdrawn_per_record(2)
        .with_updates_per_space(4)
}

/// A replica, and what it is known to have replaced: up to where, and until when it has to
/// remember.
struct Replica {
    store: SmartRecordStore,
    peer: PeerId,
    replaced: BTreeMap<Writer, (Position, Timestamp)>,
}

/// The replicas, the writers and their clock.
pub struct Boards {
    key: RecordKey,
    registry: Registry,
    clock: ManualClock,
    replicas: Vec<Replica>,
    signers: Vec<SpaceSigner>,
    /// All that was signed, as values with one update.
    signed: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Boards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boards").field("signed", &self.signed.len()).finish_non_exhaustive()
    }
}

impl Default for Boards {
    fn default() -> Self {
        let (key, clock) = (RecordKey::new("/sr/board"), ManualClock::at(now()));
        let registry =
            Registry::empty().with("sr", SpaceRules::new(limits(), Open)).expect("a namespace");
        let replica = |number: usize| {
            let peer = peer(100 + number as u64);
            let config = StoreConfig::default().with_slice_bytes(600);
            let (registry, storage) = (registry.clone(), MemoryStorage::default());
            let store =
                SmartRecordStore::with_storage(peer, registry, config, storage, clock.clone());
            let store = store.expect("memory is anyone's");
            Replica { store, peer, replaced: BTreeMap::new() }
        };
        let signer = |number: u8| {
            let mut signer = SpaceSigner::new(key.clone(), keypair(number.into()), limits());
            signer.resume(&SmartRecord::new(key.clone()));
            signer
        };
        let replicas = (0..REPLICAS).map(replica).collect();
        let signers = (0..WRITERS).map(signer).collect();
        Self { key, registry, clock, replicas, signers, signed: Vec::new() }
    }
}

fn peer(number: u64) -> PeerId {
    keypair(number).public().to_peer_id()
}

impl Boards {
    /// Runs a step, and checks that nothing is visible that was replaced.
    pub fn run(&mut self, step: &Step) {
        let now = self.clock.now();
        match *step {
            Step::Sign { by, ref kind, ttl, text, to } => {
                let signer = &mut self.signers[usize::from(by % WRITERS)];
                let document =
                    || -> Dict { [("text", "x".repeat(text.into()))].into_iter().collect() };
                let ttl = Duration::from_secs(1 + u64::from(ttl));
                let update = match kind {
                    Kind::Merge => signer.merge(document(), now, ttl),
                    Kind::Replace => signer.replace(document(), now, ttl),
                    Kind::Withdraw => signer.withdraw(now),
                };
                let Ok(update) = update else { return };
                let mut record = SmartRecord::new(self.key.clone());
                record.insert(signer.writer(), update).expect("one update");
                self.signed.push(record.encode());
                self.deliver(self.signed.len() - 1, to);
            }
            Step::Stamp { by, bits } => {
                let signer = &mut self.signers[usize::from(by % WRITERS)];
                let mut search = signer.stamp_search(bits % (MAX_BITS + 1), now);
                signer.set_stamp(None);
                signer.set_stamp(search.step(1_000));
            }
            Step::Deliver { update, to } if !self.signed.is_empty() => {
                self.deliver(usize::from(update) % self.signed.len(), to);
            }
            Step::Deliver { .. } => {}
            Step::Wait(millis) => self.clock.advance(Duration::from_millis(millis.into())),
            Step::Collect(at) => {
                let replica = &mut self.replicas[usize::from(at) % REPLICAS];
                let _ = replica.store.collect().expect("memory does not fail");
            }
            Step::Read { asker, complete_at, liar } => {
                let liar = liar.map(|liar| usize::from(liar) % REPLICAS);
                self.read(asker, 1 + usize::from(complete_at % 3), liar);
            }
        }
        let now = self.clock.now();
        for replica in &mut self.replicas {
            replica.check(&self.key, now);
        }
    }

    fn deliver(&mut self, update: usize, to: u8) {
        for (n, replica) in self.replicas.iter_mut().enumerate() {
            if to & (1 << n) != 0 {
                let record = Record::new(KadKey::new(&self.key), self.signed[update].clone());
                replica.store.put(record).expect("a remote PUT never fails");
            }
        }
    }

    /// Reads until the reader has enough, and checks what it says.
    fn read(&mut self, asker: u8, complete_at: usize, liar: Option<usize>) {
        let now = self.clock.now();
        let asker = Asker::new(peer(u64::from(asker % (2 * WRITERS))), None);
        let held: Vec<_> = self.replicas.iter().map(|it| it.record(&self.key)).collect();
        let mut reader = RecordReader::new(&self.registry, self.key.clone())
            .expect("a key of the namespace")
            .with_complete_at(complete_at);
        let target = KBucketKey::new(KadKey::new(&self.key));
        let reading = loop {
            let mut empty = BTreeMap::new();
            for (n, replica) in self.replicas.iter_mut().enumerate() {
                let answer = match self.signed.first() {
                    Some(first) if liar == Some(n) => {
                        // It shows one update and says that this is all.
                        let mut value = first.clone();
                        Coverage::new([RingArc::RING], 1, [7; 32]).append_to(&mut value);
                        Some(Record::new(KadKey::new(&self.key), value))
                    }
                    _ => replica.answer(&self.key, asker),
                };
                let Some(record) = answer else {
                    empty.insert(KBucketKey::from(replica.peer).distance(&target), replica.peer);
                    continue;
                };
                if liar != Some(n) {
                    check_answer(&held[n], &record, now);
                }
                let found = PeerRecord { peer: Some(replica.peer), record };
                let _ = reader.on_progress(&Ok(GetRecordOk::FoundRecord(found)), false, now);
            }
            let end = GetRecordOk::FinishedWithNoAdditionalRecord { cache_candidates: empty };
            if reader.on_progress(&Ok(end), true, now) == ReadStep::Finish {
                break reader.into_reading(now);
            }
        };
        let nothing = SmartRecord::new(self.key.clone());
        let found = reading.snapshot.record().unwrap_or(&nothing);
        let (withdrawn, open): (Vec<_>, Vec<_>) =
            found.spaces().partition(|(_, space)| space.is_withdrawn());
        let is_full = open.len() == limits().spaces_per_record()
            || withdrawn.len() == limits().withdrawn_per_record();
        let shown = updates(found);
        let all: BTreeSet<_> = held.iter().flat_map(updates).collect();
        for id in all {
            let lack =
                |(n, held): (usize, &SmartRecord)| liar == Some(n) || !updates(held).contains(&id);
            if held.iter().enumerate().filter(|it| lack(*it)).count() >= complete_at.min(REPLICAS) {
                continue;
            }
            let newest_replace = found.space(&id.0).and_then(Space::newest_replace);
            let is_retained = held.iter().any(|held| {
                let update = held.space(&id.0).and_then(|space| space.get(id.1));
                update.is_some_and(|update| update.retain_until() > now)
            });
            // Older than all merges that a space of so many keeps beside its newest replace.
            let is_truncated = found.space(&id.0).is_some_and(|space| {
                let positions = space.updates().map(|update| Some(update.position()));
                let merges: Vec<_> = positions.filter(|it| *it != newest_replace).collect();
                merges.len() == limits().updates_per_space()
                    && merges.iter().all(|it| *it > Some(id.1))
            });
            let is_hidden = newest_replace > Some(id.1) || is_truncated;
            if is_retained && !shown.contains(&id) && !is_hidden {
                assert!(
                    !reading.is_complete() || is_full,
                    "complete without an update that was held"
                );
                assert!(
                    !reading.is_complete_for(&id.0),
                    "a writer would resume without its update"
                );
            }
        }
    }
}

/// All that the arcs of an honest answer cover is in it, and an equal digest means that all is.
fn check_answer(held: &SmartRecord, answer: &Record, now: Timestamp) {
    let coverage = Coverage::of_answer(&answer.value).expect("answers say what they cover");
    // With room for all: a part of a space may look withdrawn, and then takes a slot of those.
    let rules = SpaceRules::new(Limits::default(), Open);
    let shown = rules.read(held.key(), &answer.value, now).expect("a valid answer");
    let mut arcs = Arcs::new();
    arcs.add(coverage.arcs().iter().copied());
    let shows_all = shown.digest(now) == held.digest(now);
    for (writer, space) in held.spaces() {
        let retained = space.updates().filter(|update| update.retain_until() > now);
        let shown = shown.space(writer);
        let is_shown = |position| shown.is_some_and(|shown| shown.get(position).is_some());
        let is_missing = retained.map(|update| update.position()).any(|it| !is_shown(it));
        let is_covered = arcs.has(RingArc::place(&writer.rank(held.key())));
        assert!(!is_missing || !is_covered, "an arc covers what the answer does not show");
        assert!(!is_missing || !shows_all, "an equal digest without an update");
    }
}

fn updates(record: &SmartRecord) -> BTreeSet<(Writer, Position)> {
    let of = |(writer, space): (&Writer, &Space)| {
        space.updates().map(|update| (writer.clone(), update.position())).collect::<Vec<_>>()
    };
    record.spaces().flat_map(of).collect()
}

impl Replica {
    fn record(&self, key: &RecordKey) -> SmartRecord {
        let record = self.store.record(key).expect("memory does not fail");
        record.unwrap_or_else(|| SmartRecord::new(key.clone()))
    }

    fn answer(&mut self, key: &RecordKey, asker: Asker) -> Option<kad::Record> {
        self.store.asked_by(Some(asker));
        let answer = self.store.get(&KadKey::new(key)).map(|record| record.into_owned());
        self.store.asked_by(None);
        answer
    }

    /// What it has replaced once is never there again, whatever it has evicted since.
    fn check(&mut self, key: &RecordKey, now: Timestamp) {
        let record = self.record(key);
        let is_withdrawn = |(_, space): &(&Writer, &Space)| space.is_withdrawn();
        let withdrawn = record.spaces().filter(is_withdrawn).count();
        assert!(withdrawn <= limits().withdrawn_per_record());
        assert!(record.spaces().len() - withdrawn <= limits().spaces_per_record());
        for (writer, space) in record.spaces() {
            if let Some(&(position, until)) = self.replaced.get(writer)
                && until > now
            {
                let mut shown = space.updates().map(|update| update.position());
                assert!(shown.all(|shown| shown >= position), "what was replaced is back");
            }
            let newest = space.newest_replace().and_then(|position| space.get(position));
            if let Some(newest) = newest {
                let known = self.replaced.entry(writer.clone());
                let known = known.or_insert((newest.position(), newest.retain_until()));
                if known.0 < newest.position() {
                    *known = (newest.position(), newest.retain_until());
                }
            }
        }
    }
}
