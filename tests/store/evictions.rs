//! What was withdrawn stays withdrawn, whatever is evicted: places of withdrawn spaces, and the
//! memory of evictions.

use libp2p_smart_record::{
    EncodedSpace, OrderKey, SignedUpdate, Space, UpdateKind, ipns::IpnsValidator,
};
use prost::Message;
use smart_record_testing::{
    forge::{self, Update},
    ipns,
};

use super::*;

fn limits() -> Limits {
    Limits::default().with_spaces_per_record(2).with_withdrawn_per_record(2)
}

fn registry_within(limits: &Limits) -> Registry {
    Registry::empty()
        .with("sr", SpaceRules::new(limits.clone(), Open))
        .unwrap()
        .with("ordered", Ordered)
        .unwrap()
        .with("number", Number)
        .unwrap()
        .with("wrapped", Wrapped)
        .unwrap()
        .with("ipns", IpnsValidator)
        .unwrap()
}

/// A store that can be closed and opened again.
struct Fixture {
    store: Option<SmartRecordStore>,
    storage: Shared,
    clock: ManualClock,
    config: StoreConfig,
}

impl Fixture {
    fn new(config: StoreConfig) -> Self {
        let (storage, clock) = (Shared::default(), ManualClock::at(Timestamp::from_millis(T0)));
        let mut fixture = Self { store: None, storage, clock, config };
        fixture.open();
        fixture
    }

    fn open(&mut self) {
        let (registry, config) = (registry_within(&limits()), self.config.clone());
        let (storage, clock) = (self.storage.share(), self.clock.clone());
        self.store = Some(
            SmartRecordStore::with_storage(local(), registry, config, storage, clock).unwrap(),
        );
    }

    fn restart(&mut self) {
        self.store = None;
        self.storage.reopen();
        self.open();
    }

    fn store(&mut self) -> &mut SmartRecordStore {
        self.store.as_mut().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn write(&mut self, key: &RecordKey, value: &[u8]) -> Result<usize, WriteError> {
        self.store().write_remote(key, value)
    }

    /// Evicts the only record, by one of the local peer that is removed then.
    fn evict(&mut self, key: &RecordKey) {
        let evicted = self.store().counters().records_evicted;
        let own = RecordKey::new("/sr/own");
        let mut signer = signer(&own, u64::MAX, Limits::default());
        signer.merge(text(1), self.now(), HOUR).unwrap();
        let value = signer.record(self.now()).encode();
        self.store().write(&own, &value).unwrap();
        self.store().forget(&own).unwrap();
        assert_eq!(self.store().counters().records_evicted, evicted + 1, "{key}");
    }

    fn writers(&mut self, key: &RecordKey) -> BTreeSet<PeerId> {
        let record = self.store().record(key).unwrap();
        let record = record.unwrap_or_else(|| SmartRecord::new(key.clone()));
        record.spaces().map(|(writer, _)| writer.peer_id()).collect()
    }
}

/// A remote write with its outcome.
trait WriteRemote {
    fn write_remote(&mut self, key: &RecordKey, value: &[u8]) -> Result<usize, WriteError>;
}

impl WriteRemote for SmartRecordStore {
    fn write_remote(&mut self, key: &RecordKey, value: &[u8]) -> Result<usize, WriteError> {
        let now = self.clock().now();
        let checked = ValidatedRecord::new(self.registry(), key.clone(), value, now);
        self.insert(checked, Origin::Remote).map(|report| report.stored)
    }
}

fn encoded(key: &RecordKey, signer: &SpaceSigner, update: &SignedUpdate) -> Vec<u8> {
    let mut record = SmartRecord::new(key.clone());
    record.insert(signer.writer(), update.clone()).unwrap();
    record.encode()
}

/// The numbers of writers in ascending order of their ranks under a key.
fn by_rank(key: &RecordKey, n: u64) -> Vec<u64> {
    let mut writers: Vec<_> = (1..=n).collect();
    writers.sort_by_cached_key(|writer| Writer::from(&keypair(*writer).public()).rank(key));
    writers
}

fn board() -> RecordKey {
    RecordKey::new("/sr/board")
}

fn withdrawn(key: &RecordKey, writer: u64, now: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let mut signer = signer(key, writer, Limits::default());
    let said = signer.merge(text(5), now, HOUR).unwrap();
    let withdrawal = signer.withdraw(now).unwrap();
    (encoded(key, &signer, &said), encoded(key, &signer, &withdrawal))
}

fn is_stale(outcome: Result<usize, WriteError>) -> bool {
    outcome == Err(ValidationError::Stale.into())
}

#[test]
fn withdrawn_spaces_have_places_of_their_own() {
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), board());
    let order = by_rank(&key, 8);
    let now = fixture.now();
    // The highest rank withdraws, and all others write.
    let (said, withdrawal) = withdrawn(&key, order[7], now);
    assert_eq!(fixture.write(&key, &said), Ok(1));
    assert_eq!(fixture.write(&key, &withdrawal), Ok(1));
    for writer in order[..7].iter().rev() {
        assert_eq!(fixture.write(&key, &one_space(&key, *writer, 5, HOUR)), Ok(1));
    }
    let expected: BTreeSet<_> = [0, 1, 7].map(|n| peer(order[n])).into();
    assert_eq!(fixture.writers(&key), expected);
    assert!(is_stale(fixture.write(&key, &said)));
    // It writes again, and goes by rank again.
    let mut again = signer(&key, order[7], Limits::default());
    again.learn(&decode(&key, &withdrawal));
    let update = again.merge(text(5), now, HOUR).unwrap();
    let value = encoded(&key, &again, &update);
    assert!(matches!(
        fixture.write(&key, &value),
        Err(WriteError::Refused(ValidationError::LimitExceeded(_)))
    ));
    assert_eq!(fixture.writers(&key), expected, "it stays withdrawn");
    assert!(is_stale(fixture.write(&key, &said)));
}

#[test]
fn of_too_many_withdrawn_spaces_those_stay_that_were_stored_first() {
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), board());
    for writer in 1..=2 {
        let (said, withdrawal) = withdrawn(&key, writer, fixture.now());
        fixture.write(&key, &said).unwrap();
        fixture.clock.advance(Duration::from_secs(1));
        fixture.write(&key, &withdrawal).unwrap();
    }
    // There is no place for a withdrawal of what was never stored.
    let (_, of_nothing) = withdrawn(&key, 3, fixture.now());
    assert!(matches!(
        fixture.write(&key, &of_nothing),
        Err(WriteError::Refused(ValidationError::LimitExceeded(LimitExceeded {
            limit: Limit::WITHDRAWN_PER_RECORD,
            ..
        })))
    ));
    assert_eq!(fixture.store().counters().withdrawn_evicted, 1);
    // What is withdrawn goes all the same, and does not come back.
    let (said, withdrawal) = withdrawn(&key, 4, fixture.now());
    fixture.write(&key, &said).unwrap();
    assert!(fixture.writers(&key).contains(&peer(4)));
    let mut before = fixture.store().counters();
    for is_first in [true, false] {
        let is_new = usize::from(is_first);
        assert_eq!(fixture.write(&key, &withdrawal), Ok(is_new));
        let after = fixture.store().counters();
        assert_eq!(after.spaces_evicted - before.spaces_evicted, is_new as u64);
        assert_eq!(after.remembered_returned, 0);
        assert_eq!(fixture.writers(&key), [1, 2].map(peer).into());
        assert!(is_stale(fixture.write(&key, &said)));
        fixture.restart();
        assert!(is_stale(fixture.write(&key, &said)));
        // It may be sent again, still has no place, and is no news.
        before = fixture.store().counters();
    }
    // One that was stored before them has a place.
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), board());
    let (said, withdrawal) = withdrawn(&key, 5, fixture.now());
    fixture.write(&key, &said).unwrap();
    for writer in 1..=2 {
        fixture.clock.advance(Duration::from_secs(1));
        let (_, withdrawal) = withdrawn(&key, writer, fixture.now());
        fixture.write(&key, &withdrawal).unwrap();
    }
    assert_eq!(fixture.write(&key, &withdrawal), Ok(1));
    assert_eq!(fixture.writers(&key), [1, 5].map(peer).into());
    assert!(is_stale(fixture.write(&key, &said)));
}

#[test]
fn a_space_that_is_left_as_its_withdrawal_goes_before_those_that_were_stored_earlier() {
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), board());
    let [victim, newcomer, first, second, third, .., last] = by_rank(&key, 8)[..] else { panic!() };
    let withdraw = |fixture: &mut Fixture, writer| {
        fixture.clock.advance(Duration::from_secs(1));
        let (_, withdrawal) = withdrawn(&key, writer, fixture.now());
        fixture.write(&key, &withdrawal)
    };
    assert_eq!(withdraw(&mut fixture, first), Ok(1));
    let (said, withdrawal) = withdrawn(&key, victim, fixture.now());
    fixture.write(&key, &said).unwrap();
    assert_eq!(withdraw(&mut fixture, second), Ok(1));
    // There is no place for it, and the store knows now which would go.
    assert!(withdraw(&mut fixture, third).is_err());
    let writer = Writer::from(&keypair(second).public());
    fixture.store().forget_space(&key, &writer).unwrap();
    // A space that was withdrawn and written again gives way to one of a lower rank.
    fixture.clock.advance(Duration::from_secs(1));
    let mut again = signer(&key, last, Limits::default());
    again.withdraw(fixture.now()).unwrap();
    again.merge(text(1), fixture.now(), HOUR).unwrap();
    let again = again.record(fixture.now()).encode();
    assert_eq!(fixture.write(&key, &again), Ok(2));
    assert_eq!(fixture.write(&key, &one_space(&key, newcomer, 1, HOUR)), Ok(1));
    assert_eq!(fixture.writers(&key), [victim, newcomer, first, last].map(peer).into());
    // It was stored last of the withdrawn ones.
    assert_eq!(fixture.write(&key, &withdrawal), Ok(1));
    assert_eq!(fixture.writers(&key), [victim, newcomer, first].map(peer).into());
}

#[test]
fn within_narrower_limits_an_early_withdrawal_has_a_place_however_many_are_too_many() {
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), board());
    let wide = limits().with_withdrawn_per_record(1_000);
    let (config, clock) = (fixture.config.clone(), fixture.clock.clone());
    let storage = fixture.storage.share();
    fixture.store = Some(
        SmartRecordStore::with_storage(local(), registry_within(&wide), config, storage, clock)
            .unwrap(),
    );
    let (said, withdrawal) = withdrawn(&key, 1, fixture.now());
    fixture.write(&key, &said).unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    for writer in 2..150 {
        let (_, withdrawal) = withdrawn(&key, writer, fixture.now());
        assert_eq!(fixture.write(&key, &withdrawal), Ok(1));
    }
    fixture.restart();
    assert_eq!(fixture.write(&key, &withdrawal), Ok(1));
    let record = fixture.store().record_of(&key, &[peer(1)]).unwrap();
    assert_eq!(record.unwrap().spaces().len(), 1, "it has a place");
    let everybody: Vec<_> = (1..150).map(peer).collect();
    let store = fixture.store();
    let is_stored = |peer: &&PeerId| store.record_of(&key, [*peer]).unwrap().is_some();
    let stored = everybody.iter().filter(is_stored).count();
    assert_eq!(stored, limits().withdrawn_per_record());
}

/// The space of a signer that breaks the rules for writers: a withdrawal for long, and a merge that
/// ends before it. Once the merge is collected, the space is withdrawn.
fn withdrawn_later(key: &RecordKey, author: &forge::Author, now: Timestamp) -> Vec<u8> {
    let (seq, now) = (now.as_millis() * 1_000, now.as_millis());
    let until = |expires_at| Update { seq, expires_at, ..Update::saying(1) };
    let withdrawal = Update { document: Vec::new(), ..until(now + 47 * 3_600_000) }.replacing();
    let merge = until(now + 1_000).after(1);
    let updates = [withdrawal, merge].map(|it| author.sign_under(key.as_bytes(), &it));
    forge::encode([author.space(updates)])
}

#[test]
fn spaces_that_become_withdrawn_when_they_are_collected_take_no_places_from_earlier_ones() {
    let (mut fixture, key) = (Fixture::new(StoreConfig::default()), forge::key());
    let (said, withdrawal) = withdrawn(&key, 1, fixture.now());
    fixture.write(&key, &said).unwrap();
    fixture.write(&key, &withdrawal).unwrap();
    let mut later = Vec::new();
    for seed in 10..20 {
        fixture.clock.advance(Duration::from_secs(2));
        let author = forge::Author::ed25519(seed);
        let space = withdrawn_later(&key, &author, fixture.now());
        fixture.write(&key, &space).unwrap();
        later.push((author.peer_id(), space));
        fixture.clock.advance(Duration::from_secs(2));
        assert_eq!(fixture.store().collect(), Ok(1));
        assert_eq!(fixture.writers(&key).len(), 2.min(later.len() + 1));
        // What has no place does not come back either.
        fixture.restart();
        assert!(fixture.writers(&key).contains(&peer(1)));
        assert!(is_stale(fixture.write(&key, &said)));
    }
    assert_eq!(fixture.writers(&key), [peer(1), later[0].0].into());
    let (said, withdrawal) = withdrawn(&key, 2, fixture.now());
    fixture.write(&key, &said).unwrap();
    assert_eq!(fixture.write(&key, &withdrawal), Ok(1), "it is dismissed, and remembered");
    assert!(is_stale(fixture.write(&key, &said)));
}

/// A board that gives out two spaces, the writers that are given out, and what its answers say of
/// it. The last writer is protected.
fn answered(
    slice_bytes: usize,
    protected: u64,
    prepare: impl FnOnce(&mut Fixture),
    key: &RecordKey,
) -> (SmartRecord, u32, [u8; 32]) {
    let config = StoreConfig::default().with_protected([peer(protected)]);
    let mut fixture = Fixture::new(config.with_slice_bytes(slice_bytes));
    prepare(&mut fixture);
    asked(fixture.store());
    let answer = fixture.store().get(&kad_key(key)).unwrap().value.clone();
    let Coverage { spaces, digest, .. } = Coverage::of_answer(&answer).unwrap();
    (fixture.store().record(key).unwrap().unwrap(), spaces, digest)
}

#[test]
fn what_becomes_withdrawn_counts_as_withdrawn_before_it_is_collected() {
    let key = forge::key();
    let [.., b, c] = by_rank(&key, 40)[..] else { panic!() };
    let bar = Writer::from(&keypair(b).public()).rank(&key);
    let below = |author: &forge::Author| author.writer().rank(&key) < bar;
    let author = (100..).map(forge::Author::ed25519).find(below).unwrap();
    for slice_bytes in [300, 8 * 1_024] {
        let answers = [false, true].map(|collects| {
            let prepare = |fixture: &mut Fixture| {
                let space = withdrawn_later(&key, &author, fixture.now());
                fixture.write(&key, &space).unwrap();
                for writer in [b, c] {
                    let space = one_space(&key, writer, 1, HOUR);
                    assert_eq!(fixture.write(&key, &space), Ok(1));
                }
                fixture.clock.advance(Duration::from_secs(2));
                if collects {
                    assert_eq!(fixture.store().collect(), Ok(1));
                }
            };
            answered(slice_bytes, c, prepare, &key)
        });
        assert_eq!(answers[0], answers[1]);
        let (record, spaces, digest) = &answers[0];
        assert_eq!((record.spaces().len(), *spaces), (3, 3));
        let now = Timestamp::from_millis(T0 + 2_000);
        assert_eq!(record.digest(now), *digest);
    }
}

#[test]
fn a_space_that_cannot_be_read_takes_no_place_of_what_is_given_out() {
    let key = board();
    let order = by_rank(&key, 3);
    for slice_bytes in [300, 8 * 1_024] {
        let prepare = |fixture: &mut Fixture| {
            for writer in &order {
                let space = one_space(&key, *writer, 1, HOUR);
                assert_eq!(fixture.write(&key, &space), Ok(1));
            }
            let rank = Writer::from(&keypair(order[0]).public()).rank(&key);
            let id = RecordId::new(&local(), &key).part(SpaceId(rank));
            let mut storage = fixture.storage.share();
            let part = storage.get(&id).unwrap().unwrap();
            let damaged = Part { bytes: Cow::Owned(vec![0xff; 50]), digest: None, ..part };
            storage.apply(vec![Change::Set(id, damaged)]).unwrap();
        };
        let (record, spaces, digest) = answered(slice_bytes, order[2], prepare, &key);
        assert_eq!((record.spaces().len(), spaces), (2, 2));
        assert_eq!(record.digest(Timestamp::from_millis(T0)), digest);
    }
}

/// A store with room for one record, of which each write under another key evicts what it has.
fn cramped() -> (Fixture, Vec<RecordKey>) {
    let config = StoreConfig::default().with_max_records(1);
    let mut keys: Vec<_> = (0..200).map(|i| RecordKey::new(format!("/sr/{i}"))).collect();
    keys.sort_by_cached_key(|key| std::cmp::Reverse(RecordId::new(&local(), key)));
    (Fixture::new(config), keys)
}

#[test]
fn what_was_evicted_comes_back_as_it_was_or_newer() {
    for restarts in [false, true] {
        let (mut fixture, keys) = cramped();
        let (key, now) = (&keys[0], fixture.now());
        let mut alice = signer(key, 1, Limits::default());
        let old = alice.merge(text(1), now, HOUR).unwrap();
        let new = alice.merge(text(2), now, HOUR).unwrap();
        let whole = alice.record(now).encode();
        let newest = alice.merge(text(3), now, HOUR).unwrap();
        let [old, new, newest] = [old, new, newest].map(|update| encoded(key, &alice, &update));
        for comes_back_with in [&whole, &new, &newest] {
            fixture.write(key, &whole).unwrap();
            fixture.write(&keys[1], &one_space(&keys[1], 2, 1, HOUR)).unwrap();
            assert_eq!(fixture.store().counters().remembered, 1);
            fixture.store().forget(&keys[1]).unwrap();
            assert_eq!(fixture.writers(key), [].into());
            if restarts {
                fixture.restart();
            }
            assert!(is_stale(fixture.write(key, &old)));
            assert!(fixture.store().counters().remembered_refused > 0);
            // Another writer is not concerned.
            assert_eq!(fixture.write(key, &one_space(key, 9, 1, HOUR)), Ok(1));
            let returned = fixture.store().counters().remembered_returned;
            assert!(fixture.write(key, comes_back_with).unwrap() > 0);
            assert!(fixture.writers(key).contains(&peer(1)));
            let counters = fixture.store().counters();
            assert_eq!(counters.remembered_returned, returned + 1);
            assert_eq!(counters.remembered, 0, "it is forgotten");
            fixture.store().forget(key).unwrap();
        }
    }
}

#[test]
fn a_write_whose_reads_fail_costs_no_memory_of_evictions() {
    let config = StoreConfig::default().with_max_records(1).with_max_remembered(1);
    let (_, keys) = cramped();
    let (key, own) = (&keys[0], RecordKey::new("/sr/own"));
    // What was evicted comes back, or what had been stored for longer is evicted.
    for comes_back in [true, false] {
        let mut failed = 0;
        loop {
            let (rows, clock) = (Shared::default(), ManualClock::at(Timestamp::from_millis(T0)));
            let open = |rows: &Shared| {
                let probe = Probe::over(rows.share());
                let (state, registry) = (probe.state(), registry_within(&limits()));
                let (config, clock) = (config.clone(), clock.clone());
                let store = SmartRecordStore::with_storage(local(), registry, config, probe, clock);
                (store.unwrap(), state)
            };
            let (mut store, state) = open(&rows);
            let mut alice = signer(key, 1, Limits::default());
            let old = alice.merge(text(1), clock.now(), HOUR).unwrap();
            let old = encoded(key, &alice, &old);
            alice.merge(text(2), clock.now(), HOUR).unwrap();
            let whole = alice.record(clock.now()).encode();
            store.write_remote(key, &whole).unwrap();
            store.write_remote(&keys[1], &one_space(&keys[1], 2, 1, HOUR)).unwrap();
            assert_eq!(store.counters().remembered, 1);
            if comes_back {
                store.forget(&keys[1]).unwrap();
            } else {
                clock.advance(Duration::from_secs(1));
            }
            let first = state.tallies.load(SeqCst) + 1;
            state.failing_tally.store(first + failed, SeqCst);
            let written = if comes_back {
                store.write_remote(key, &whole).map(drop)
            } else {
                store.write(&own, &one_space(&own, u64::MAX, 1, HOUR)).map(drop)
            };
            if state.tallies.load(SeqCst) < first + failed {
                written.unwrap();
                break;
            }
            assert!(matches!(written, Err(WriteError::Storage(_))), "{failed}: {written:?}");
            // The next commit succeeds.
            store.forget(&keys[2]).unwrap();
            assert!(is_stale(store.write_remote(key, &old)), "{comes_back}, {failed}");
            drop(store);
            rows.reopen();
            let (mut store, _) = open(&rows);
            assert!(is_stale(store.write_remote(key, &old)), "{comes_back}, {failed}");
            failed += 1;
        }
        assert!(failed > 1, "{failed}");
    }
}

#[test]
fn a_newer_update_alone_does_not_bring_back_what_was_withdrawn() {
    let (mut fixture, keys) = cramped();
    let (key, now) = (&keys[0], fixture.now());
    let mut alice = signer(key, 1, Limits::default());
    let said = alice.merge(text(1), now, HOUR).unwrap();
    let withdrawal = alice.withdraw(now).unwrap();
    let later = alice.merge(text(3), now, HOUR).unwrap();
    let [said, withdrawal, later] =
        [said, withdrawal, later].map(|update| encoded(key, &alice, &update));
    fixture.write(key, &said).unwrap();
    fixture.write(key, &withdrawal).unwrap();
    fixture.write(&keys[1], &one_space(&keys[1], 2, 1, HOUR)).unwrap();
    fixture.store().forget(&keys[1]).unwrap();
    assert!(is_stale(fixture.write(key, &said)));
    // Somebody has kept the latest update without the withdrawal.
    assert_eq!(fixture.write(key, &later), Ok(1));
    let shown = |fixture: &mut Fixture| fixture.store().view(key).unwrap().get(&peer(1)).cloned();
    let expected = shown(&mut fixture);
    for _ in 0..2 {
        assert!(is_stale(fixture.write(key, &said)));
        assert_eq!(shown(&mut fixture), expected);
        fixture.restart();
    }
    // Evicted once more, it still knows.
    fixture.write(&keys[1], &one_space(&keys[1], 2, 1, HOUR)).unwrap();
    fixture.store().forget(&keys[1]).unwrap();
    assert!(is_stale(fixture.write(key, &said)));
    assert!(is_stale(fixture.write(key, &withdrawal)));
    assert_eq!(fixture.write(key, &later), Ok(1));
    assert!(is_stale(fixture.write(key, &said)));
    // The space itself hides it again.
    assert_eq!(fixture.write(key, &withdrawal), Ok(1));
    assert_eq!(fixture.store().counters().remembered, 0);
    assert!(is_stale(fixture.write(key, &said)));
    assert_eq!(shown(&mut fixture), expected);
}

#[test]
fn a_flood_forgets_its_own_evictions_first() {
    let (fixture, keys) = cramped();
    let config = fixture.config.clone().with_max_remembered(10);
    let mut fixture = Fixture::new(config);
    let now = fixture.now();
    let (said, withdrawal) = withdrawn(&keys[0], 1, now);
    fixture.write(&keys[0], &said).unwrap();
    fixture.write(&keys[0], &withdrawal).unwrap();
    fixture.clock.advance(Duration::from_secs(60));
    fixture.evict(&keys[0]);
    // Ten times as many evictions as are remembered.
    for (n, key) in keys[1..101].iter().enumerate() {
        let value = one_space(key, 100 + n as u64, 1, HOUR);
        assert_eq!(fixture.write(key, &value), Ok(1), "nobody who was not evicted is refused");
        fixture.clock.advance(Duration::from_millis(10));
        fixture.evict(key);
    }
    let counters = fixture.store().counters();
    assert_eq!((counters.remembered, counters.remembered_dropped), (10, 91));
    fixture.restart();
    assert_eq!(fixture.store().counters().remembered_refused, 0);
    assert!(is_stale(fixture.write(&keys[0], &said)));
    // An evicted space that lives is back with its refresh, remembered or not.
    for (n, key) in keys[1..101].iter().enumerate().rev().step_by(30) {
        assert_eq!(fixture.write(key, &one_space(key, 100 + n as u64, 1, HOUR)), Ok(1));
        fixture.store().forget(key).unwrap();
    }
    assert!(is_stale(fixture.write(&keys[0], &said)));
    assert_eq!(fixture.write(&keys[0], &withdrawal), Ok(1));
}

#[test]
fn what_comes_back_again_and_again_counts_for_no_longer_than_it_was_stored() {
    let farthest = |namespace: &str| {
        let keys = (0..200).map(|i| RecordKey::new(format!("/{namespace}/{i}")));
        keys.max_by_key(|key| RecordId::new(&local(), key)).unwrap()
    };
    for (key, value) in [
        (farthest("sr"), one_space(&farthest("sr"), 1, 1, HOUR)),
        (farthest("ordered"), b"5".to_vec()),
    ] {
        let (fixture, keys) = cramped();
        let mut fixture = Fixture::new(fixture.config.clone().with_max_remembered(1));
        let victim = &keys[198];
        // It is stored for a second, twice, half a minute apart.
        assert_eq!(fixture.write(&key, &value), Ok(1));
        fixture.clock.advance(Duration::from_secs(1));
        fixture.evict(&key);
        fixture.clock.advance(Duration::from_secs(30));
        assert_eq!(fixture.write(&key, &value), Ok(1));
        fixture.clock.advance(Duration::from_secs(1));
        fixture.evict(&key);
        let (said, withdrawal) = withdrawn(victim, 3, fixture.now());
        fixture.write(victim, &said).unwrap();
        fixture.write(victim, &withdrawal).unwrap();
        fixture.clock.advance(Duration::from_secs(10));
        fixture.evict(victim);
        assert_eq!(fixture.store().counters().remembered_dropped, 1);
        assert!(is_stale(fixture.write(victim, &said)), "it was stored for ten seconds");
    }
}

#[test]
fn what_has_expired_is_forgotten_before_what_has_not() {
    let (fixture, keys) = cramped();
    let mut fixture = Fixture::new(fixture.config.clone().with_max_remembered(3));
    // They had been stored for longer, and expire soon.
    for (n, key) in keys[..3].iter().enumerate() {
        fixture.write(key, &one_space(key, n as u64, 1, Duration::from_secs(90))).unwrap();
        fixture.clock.advance(Duration::from_secs(20));
        fixture.evict(key);
    }
    fixture.clock.advance(Duration::from_secs(40));
    let (said, withdrawal) = withdrawn(&keys[4], 9, fixture.now());
    fixture.write(&keys[4], &said).unwrap();
    fixture.write(&keys[4], &withdrawal).unwrap();
    fixture.evict(&keys[4]);
    assert!(is_stale(fixture.write(&keys[4], &said)));
    assert_eq!(fixture.store().counters().remembered_dropped, 0);
}

/// Numbers in text; the greatest wins.
struct Ordered;

impl Validator for Ordered {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        Number.validate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        Number.select(key, values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        Some(&Number)
    }

    fn order_key(&self, _: &RecordKey, value: &[u8]) -> Option<OrderKey> {
        let number: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
        OrderKey::new(&number.to_be_bytes()).ok()
    }
}

/// Adds nothing to [`Ordered`].
struct Wrapped;

impl Validator for Wrapped {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        Ordered.validate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        Ordered.select(key, values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        Some(&Ordered)
    }
}

#[test]
fn a_value_with_an_order_key_is_not_rolled_back_by_an_eviction() {
    let config = StoreConfig::default().with_max_records(1);
    for (namespace, is_remembered) in [("ordered", true), ("wrapped", true), ("number", false)] {
        let mut fixture = Fixture::new(config.clone());
        let mut keys: Vec<_> =
            (0..2).map(|i| RecordKey::new(format!("/{namespace}/{i}"))).collect();
        keys.sort_by_cached_key(|key| std::cmp::Reverse(RecordId::new(&local(), key)));
        for (evicted, older, same) in [(&b"50"[..], &b"9"[..], true), (b"60", b"59", false)] {
            fixture.write(&keys[0], evicted).unwrap();
            fixture.write(&keys[1], b"1").unwrap();
            fixture.store().forget(&keys[1]).unwrap();
            assert_eq!(fixture.store().value(&keys[0]).unwrap(), None);
            fixture.restart();
            let outcome = fixture.write(&keys[0], older);
            assert_eq!(is_stale(outcome), is_remembered, "{namespace}");
            let back: &[u8] = if same { evicted } else { b"61" };
            assert_eq!(fixture.write(&keys[0], back), Ok(1));
            assert_eq!(fixture.store().counters().remembered, 0);
            fixture.store().forget(&keys[0]).unwrap();
        }
    }
}

#[test]
fn an_ipns_record_is_not_rolled_back_by_an_eviction() {
    let owner = keypair(1);
    let key = ipns::key(&owner);
    let [first, second, third] =
        ["2023-11-15T00:00:00Z", "2023-11-15T01:00:00Z", "2023-11-16T00:00:00Z"];
    for (lower, evicted, higher) in [(1, 2, 3), (255, 256, 257), (511, 512, 1 << 40)] {
        let record = |sequence, eol| ipns::numbered(&owner, sequence, eol);
        for back in [record(evicted, second), record(evicted, third), record(higher, first)] {
            let mut fixture = Fixture::new(StoreConfig::default().with_max_records(1));
            assert_eq!(fixture.write(&key, &record(evicted, second)), Ok(1));
            fixture.evict(&key);
            fixture.restart();
            // A later end does not make up for a lower sequence.
            for older in [record(lower, second), record(lower, third), record(evicted, first)] {
                assert!(is_stale(fixture.write(&key, &older)), "{evicted}");
            }
            assert_eq!(fixture.write(&key, &back), Ok(1));
            assert_eq!(fixture.store().counters().remembered, 0);
        }
    }
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    Merge(usize, usize),
    Replace(usize, usize),
    Withdraw(usize, usize),
    /// Sends again what a writer has signed under a key, or a part of it.
    Replay(usize, usize, usize),
    /// Writers of their own write under a key.
    Flood(usize, u8, u64),
    /// A writer of its own breaks the rules under a key: its space becomes withdrawn by itself.
    Breach(usize),
    Wait(u64),
    Collect,
    Restart,
}

const KEYS: usize = 3;
const WRITERS: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, writer) = (|| 0..KEYS, || 0..WRITERS);
    let step = prop_oneof![
        3 => (key(), writer()).prop_map(|(k, w)| Step::Merge(k, w)),
        1 => (key(), writer()).prop_map(|(k, w)| Step::Replace(k, w)),
        3 => (key(), writer()).prop_map(|(k, w)| Step::Withdraw(k, w)),
        6 => (key(), writer(), any::<prop::sample::Index>())
            .prop_map(|(k, w, i)| Step::Replay(k, w, i.index(1 << 16))),
        3 => (key(), 1_u8..4, 1_u64..3_000).prop_map(|(k, n, ttl)| Step::Flood(k, n, ttl)),
        1 => key().prop_map(Step::Breach),
        2 => (1_u64..2_000).prop_map(Step::Wait),
        1 => Just(Step::Collect),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..80)
}

/// The counts of a board, as its head has them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Counted {
    #[prost(uint32, tag = "1")]
    spaces: u32,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(uint32, tag = "6")]
    withdrawn_spaces: u32,
    #[prost(uint64, tag = "7")]
    withdrawn_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct CountingHead {
    #[prost(message, optional, tag = "2")]
    board: Option<Counted>,
}

/// The rows of the spaces under a key.
fn rows<'a>(storage: &'a Shared, key: &RecordKey) -> impl Iterator<Item = (PartId, Part<'a>)> {
    let record = RecordId::new(&local(), key);
    let rows = storage.scan(record.parts()).map(Result::unwrap);
    rows.filter(move |(id, _)| *id != record.head())
}

impl Counted {
    fn of_head(storage: &Shared, key: &RecordKey) -> Self {
        let head = storage.get(&RecordId::new(&local(), key).head()).unwrap();
        let head = head.map(|head| CountingHead::decode(&head.bytes[..]).unwrap());
        head.and_then(|head| head.board).unwrap_or_default()
    }

    fn of_rows(storage: &Shared, key: &RecordKey) -> Self {
        let mut counted = Self::default();
        for (_, part) in rows(storage, key) {
            counted.spaces += 1;
            counted.bytes += part.bytes.len() as u64;
            if EncodedSpace::new(&part.bytes).is_withdrawn() {
                counted.withdrawn_spaces += 1;
                counted.withdrawn_bytes += part.bytes.len() as u64;
            }
        }
        counted
    }
}

/// A store, and the spaces that were evicted from it, each with how long it had been stored.
struct Observed {
    fixture: Fixture,
    keys: Vec<RecordKey>,
    evicted: Vec<(PartId, Duration)>,
}

impl Observed {
    /// Since when each space has been stored, and whether it is withdrawn.
    fn spaces(&self) -> BTreeMap<PartId, (Timestamp, bool)> {
        let rows = self.keys.iter().flat_map(|key| rows(&self.fixture.storage, key));
        let space =
            |part: Part<'_>| (part.stored_at, EncodedSpace::new(&part.bytes).is_withdrawn());
        rows.map(|(id, part)| (id, space(part))).collect()
    }

    /// Does something to the store. A space that is gone, or withdrawn though it was not written,
    /// counts as evicted.
    fn step<T>(&mut self, written: Option<PartId>, act: impl FnOnce(&mut Fixture) -> T) -> T {
        let before = self.spaces();
        let done = act(&mut self.fixture);
        let (after, now) = (self.spaces(), self.fixture.now());
        for (id, (stored_at, was_withdrawn)) in before {
            let is_as_before = |(_, withdrawn): &_| *withdrawn == was_withdrawn;
            if !after.get(&id).is_some_and(|it| written == Some(id) || is_as_before(it)) {
                self.evicted.push((id, now.saturating_since(stored_at)));
            }
        }
        done
    }

    fn write(
        &mut self,
        key: &RecordKey,
        writer: Writer,
        value: &[u8],
    ) -> Result<usize, WriteError> {
        let id = space_id(key, &writer);
        let was_stored = self.spaces().contains_key(&id);
        let stored = self.step(Some(id), |fixture| fixture.write(key, value));
        if stored == Ok(1) && !was_stored && !self.spaces().contains_key(&id) {
            // A withdrawal that has no place.
            self.evicted.push((id, Duration::ZERO));
        }
        stored
    }

    /// Whether so many others were evicted that had been stored for at least as long as a space
    /// that was evicted.
    fn may_forget(&self, space: PartId, max_remembered: usize) -> bool {
        let last = self.evicted.iter().rfind(|(id, _)| *id == space);
        last.is_some_and(|(_, stored_for)| {
            let others = self.evicted.iter().filter(|(id, it)| *id != space && it >= stored_for);
            others.map(|(id, _)| id).collect::<BTreeSet<_>>().len() >= max_remembered
        })
    }
}

fn space_id(key: &RecordKey, writer: &Writer) -> PartId {
    RecordId::new(&local(), key).part(SpaceId(writer.rank(key)))
}

/// What a writer has signed under a key.
struct Author {
    signer: SpaceSigner,
    updates: Vec<SignedUpdate>,
    /// The latest withdrawal that the store has taken, and until when it is retained. `None` also
    /// if the store may have forgotten it.
    withdrawn: Option<(SignedUpdate, Timestamp)>,
}

/// Unless the memory is full of what had been stored for at least as long.
#[test]
fn a_withdrawn_update_is_never_visible_again() {
    // A disk is closed and opened again in each case.
    let cases = if new_storage().is_durable() { 12 } else { 400 };
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    });
    let max_remembered = prop_oneof![Just(100_000), 1_usize..6];
    runner.run(&(max_remembered, steps()), |(max, steps)| check(max, &steps)).unwrap();
}

fn check(max_remembered: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let config = StoreConfig::default().with_max_records(KEYS - 1);
    let fixture = Fixture::new(config.with_max_remembered(max_remembered));
    let keys: Vec<_> = (0..KEYS).map(|n| RecordKey::new(format!("/sr/{n}"))).collect();
    let mut store = Observed { fixture, keys: keys.clone(), evicted: Vec::new() };
    let mut authors = BTreeMap::new();
    for (k, key) in keys.iter().enumerate() {
        for w in 0..WRITERS {
            let limits = limits().with_max_ttl(Duration::from_secs(10));
            let signer = signer(key, w as u64, limits);
            authors.insert((k, w), Author { signer, updates: Vec::new(), withdrawn: None });
        }
    }
    let mut strangers = 1_000;
    for step in steps {
        let now = store.fixture.now();
        match *step {
            Step::Merge(k, w) | Step::Replace(k, w) | Step::Withdraw(k, w) => {
                let author = authors.get_mut(&(k, w)).unwrap();
                let ttl = Duration::from_secs(5);
                let update = match step {
                    Step::Merge(..) => author.signer.merge(text(1), now, ttl),
                    Step::Replace(..) => author.signer.replace(text(2), now, ttl),
                    _ => author.signer.withdraw(now),
                };
                let update = update.unwrap();
                author.updates.push(update.clone());
                let value = encoded(&keys[k], &author.signer, &update);
                let stored = store.write(&keys[k], author.signer.writer(), &value);
                if stored == Ok(1) && update.kind() == UpdateKind::Replace {
                    author.withdrawn = Some((update.clone(), update.retain_until()));
                }
            }
            Step::Replay(k, w, i) => {
                let author = authors.get_mut(&(k, w)).unwrap();
                if author.updates.is_empty() {
                    continue;
                }
                let update = author.updates[i % author.updates.len()].clone();
                let value = encoded(&keys[k], &author.signer, &update);
                let is_news = author
                    .withdrawn
                    .as_ref()
                    .is_none_or(|(newest, _)| newest.position() < update.position());
                let stored = store.write(&keys[k], author.signer.writer(), &value);
                if stored == Ok(1) && update.kind() == UpdateKind::Replace && is_news {
                    author.withdrawn = Some((update.clone(), update.retain_until()));
                }
            }
            Step::Flood(k, n, ttl) => {
                for _ in 0..n {
                    strangers += 1;
                    let mut stranger = signer(&keys[k], strangers, Limits::default());
                    let ttl = Duration::from_millis(ttl);
                    stranger.merge(Dict::new(), now, ttl).unwrap();
                    let value = stranger.record(now).encode();
                    let outcome = store.write(&keys[k], stranger.writer(), &value);
                    prop_assert!(!is_stale(outcome), "a stranger is refused for the past");
                }
            }
            Step::Breach(k) => {
                strangers += 1;
                let author = forge::Author::ed25519(strangers);
                let value = withdrawn_later(&keys[k], &author, now);
                let outcome = store.write(&keys[k], author.writer(), &value);
                prop_assert!(!is_stale(outcome), "a stranger is refused for the past");
            }
            Step::Wait(ms) => store.fixture.clock.advance(Duration::from_millis(ms)),
            Step::Collect => drop(store.step(None, |fixture| fixture.store().collect()).unwrap()),
            Step::Restart => store.step(None, Fixture::restart),
        }
        for key in &keys {
            let counted = Counted::of_rows(&store.fixture.storage, key);
            prop_assert_eq!(&counted, &Counted::of_head(&store.fixture.storage, key));
            let limits = limits();
            let open = counted.spaces - counted.withdrawn_spaces;
            prop_assert!(open as usize <= limits.spaces_per_record());
            prop_assert!(counted.withdrawn_spaces as usize <= limits.withdrawn_per_record());
        }
        let now = store.fixture.now();
        for ((k, _), author) in &mut authors {
            let Some((hidden_by, _)) = author.withdrawn.as_ref().filter(|(_, at)| *at > now) else {
                continue;
            };
            let (key, hidden_by) = (&keys[*k], hidden_by.position());
            let writer = author.signer.writer();
            let record = store.fixture.store().record_of(key, [&writer.peer_id()]).unwrap();
            let space = record.as_ref().and_then(|record| record.space(&writer));
            let is_stored = space.and_then(Space::newest_replace) >= Some(hidden_by);
            if !is_stored && store.may_forget(space_id(key, &writer), max_remembered) {
                author.withdrawn = None;
                continue;
            }
            for update in space.iter().flat_map(|space| space.updates()) {
                prop_assert!(update.position() >= hidden_by, "an update that was replaced is back");
            }
        }
    }
    Ok(())
}
