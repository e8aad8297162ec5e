//! Shares of a full store: what goes first when records of several sources compete for room.

use super::*;

/// A peer of the network 10.n.n.
fn source(n: u8) -> Option<Asker> {
    let address = format!("/ip4/10.{n}.{n}.{}/tcp/1", 1 + n % 9);
    Some(Asker::new(peer(1_000 + u64::from(n)), Some(&address.parse().unwrap())))
}

fn key(n: usize) -> RecordKey {
    RecordKey::new(format!("/any/{n}"))
}

/// A store that can be closed and opened again.
struct Fixture {
    store: Option<SmartRecordStore>,
    rows: Shared,
    state: Arc<probe::ProbeState>,
    clock: ManualClock,
    config: StoreConfig,
}

impl Fixture {
    fn new(config: StoreConfig) -> Self {
        let (rows, clock) = (Shared::default(), ManualClock::at(Timestamp::from_millis(T0)));
        let mut fixture = Self { store: None, rows, state: Arc::default(), clock, config };
        fixture.restart();
        fixture
    }

    fn restart(&mut self) {
        self.store = None;
        self.rows.reopen();
        let probe = Probe::over(self.rows.share());
        self.state = probe.state();
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let limits = Limits::default().with_min_stamp_bits(8);
        let registry = registry().with("stamped", SpaceRules::new(limits, Open)).unwrap();
        let store = SmartRecordStore::with_storage(local(), registry, config, probe, clock);
        self.store = Some(store.unwrap());
    }

    fn store(&mut self) -> &mut SmartRecordStore {
        self.store.as_mut().unwrap()
    }

    /// Writes a record from a source, a second after the one before. Returns whether it is stored.
    fn bring(&mut self, from: Option<Asker>, key: &RecordKey, value: &[u8]) -> bool {
        self.clock.advance(Duration::from_secs(1));
        let now = self.clock.now();
        let store = self.store();
        store.asked_by(from);
        let checked = ValidatedRecord::new(store.registry(), key.clone(), value, now);
        match store.insert(checked, Origin::Remote) {
            Ok(_) => true,
            Err(WriteError::Refused(ValidationError::LimitExceeded(limit))) => {
                let limits = [
                    StoreConfig::STORE_RECORDS,
                    StoreConfig::STORE_BYTES,
                    StoreConfig::NAMESPACE_RECORDS,
                ];
                assert!(limits.contains(&limit.limit), "{limit}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn value(&mut self, from: u8, n: usize) -> bool {
        self.bring(source(from), &key(n), b"value")
    }

    fn has(&mut self, key: &RecordKey) -> bool {
        self.store().get(&kad_key(key)).is_some()
    }

    /// Which of the keys below `n` have a record.
    fn kept(&mut self, n: usize) -> Vec<usize> {
        (0..n).filter(|n| self.has(&key(*n))).collect()
    }
}

fn full(records: usize) -> Fixture {
    Fixture::new(StoreConfig::default().with_max_records(records))
}

#[test]
fn the_largest_share_loses_what_it_has_stored_last() {
    for restarts in [false, true] {
        let mut fixture = full(6);
        for n in 0..4 {
            assert!(fixture.value(1, n));
        }
        assert!(fixture.value(2, 10) && fixture.value(2, 11));
        if restarts {
            fixture.restart();
        }
        // A third source displaces the last of the first one.
        assert!(fixture.value(3, 20));
        assert_eq!(fixture.kept(30), [0, 1, 2, 10, 11, 20]);
        // It cannot come back: its share would be the largest again.
        assert!(!fixture.value(1, 3));
        assert!(fixture.value(3, 21));
        assert_eq!(fixture.kept(30), [0, 1, 10, 11, 20, 21]);
        // All have the same. Nobody gets more, and a newcomer gets as much.
        for source in 1..=3 {
            assert!(!fixture.value(source, 5));
        }
        assert!(fixture.value(4, 30));
        // Of equal shares that loses whose last record was stored last.
        assert_eq!(fixture.kept(31), [0, 1, 10, 11, 20, 30]);
        assert_eq!(fixture.store().usage().records, 6);
    }
}

#[test]
fn sources_that_are_not_known_are_one_share_and_what_this_node_does_is_another() {
    let mut fixture = full(4);
    let relayed = Asker::new(peer(1), Some(&"/p2p-circuit".parse().unwrap()));
    assert!(fixture.bring(None, &key(0), b"value"));
    assert!(fixture.bring(Some(relayed), &key(1), b"value"));
    assert!(fixture.value(1, 2) && fixture.value(2, 3));
    // A space that another identity of this node's user has signed is not protected.
    let own = RecordKey::new("/sr/own");
    fixture.clock.advance(Duration::from_secs(1));
    let value = one_space(&own, 5, 10, HOUR);
    fixture.store().write(&own, &value).unwrap();
    assert_eq!(fixture.kept(4), [0, 2, 3]);
    assert!(fixture.has(&own));
    assert!(!fixture.bring(None, &key(1), b"value"));
}

#[test]
fn a_record_stays_in_the_share_of_who_has_brought_it_first() {
    let mut fixture = full(3);
    for n in 0..2 {
        assert!(fixture.value(1, n));
        assert!(fixture.bring(source(2), &key(n), b"another value"));
    }
    let board = RecordKey::new("/sr/board");
    for writer in 1..=3 {
        assert!(fixture.bring(source(writer), &board, &one_space(&board, writer.into(), 5, HOUR)));
    }
    fixture.restart();
    // The first source has three, and the second none.
    assert!(fixture.value(2, 2));
    assert_eq!(fixture.kept(3), [0, 1, 2]);
    assert!(!fixture.has(&board));
    // A value that was this node's own is the share of who replaces it.
    let mut fixture = full(2);
    fixture.store().write(&key(0), b"own").unwrap();
    assert!(fixture.value(1, 1));
    assert!(!fixture.value(1, 2), "what this node has written is protected");
    assert!(fixture.bring(source(1), &key(0), b"another's"));
    assert!(fixture.value(2, 2));
    assert_eq!(fixture.kept(3), [0, 2]);
}

#[test]
fn bytes_count_as_records_do() {
    let row = |bytes: usize| bytes + 12 + Usage::ROW;
    let mut fixture =
        Fixture::new(StoreConfig::default().with_max_bytes(row(10_000) + 3 * row(2_000)));
    assert!(fixture.bring(source(1), &key(0), &[1; 1_000]));
    assert!(fixture.bring(source(1), &key(1), &[1; 9_000]));
    for n in 2..4 {
        assert!(fixture.bring(source(2), &key(n), &[2; 2_000]));
    }
    // The second source has as many records, and less than half of the bytes.
    assert!(fixture.bring(source(3), &key(4), &[3; 3_000]));
    assert_eq!(fixture.kept(5), [0, 2, 3, 4]);
    assert!(!fixture.bring(source(4), &key(5), &[4; 20_000]));
    // A record that grows is in the way of its own share first.
    assert!(fixture.bring(source(3), &key(0), &[5; 2_000]));
    assert!(fixture.bring(source(3), &key(0), &[5; 8_500]));
    assert!(!fixture.bring(source(3), &key(0), &[5; 12_000]));
    assert_eq!(fixture.kept(6), [0, 2, 3, 4]);
    assert_eq!(fixture.store().get(&kad_key(key(0))).unwrap().value.len(), 8_500);
}

#[test]
fn a_namespace_has_shares_of_its_own() {
    let quota = Quota { count: 3, bytes: usize::MAX };
    let config = StoreConfig::default().with_namespace_quota("any", quota);
    let mut fixture = Fixture::new(config);
    let boards: Vec<_> = (0..5).map(|n| RecordKey::new(format!("/sr/{n}"))).collect();
    for board in &boards {
        assert!(fixture.bring(source(2), board, &one_space(board, 1, 5, HOUR)));
    }
    assert!(fixture.value(1, 0) && fixture.value(1, 1) && fixture.value(2, 2));
    fixture.restart();
    assert!(!fixture.value(1, 3));
    // Elsewhere the second source has more.
    assert!(fixture.value(3, 4));
    assert_eq!(fixture.kept(5), [0, 2, 4]);
    assert!(boards.iter().all(|board| fixture.has(board)));
}

/// The record of a writer under its own key, with a stamp of so many bits if there are any.
fn stamped(key: &RecordKey, writer: u64, bits: u8) -> Vec<u8> {
    let now = Timestamp::from_millis(T0);
    let mut signer = signer(key, writer, Limits::default());
    signer.set_stamp(signer.stamp_search(bits, now).step(1 << 24));
    signer.merge(text(5), now, HOUR).unwrap();
    signer.record(now).encode()
}

#[test]
fn within_a_share_what_has_work_goes_after_what_has_none() {
    for restarts in [false, true] {
        let mut fixture = full(6);
        let keys: Vec<_> = (0..9).map(|n| RecordKey::new(format!("/stamped/{n}"))).collect();
        // Less than the least bits are none.
        let bits = [0, 7, 8, 9, 0, 0];
        for (n, key) in keys[..6].iter().enumerate() {
            let from = if n < 5 { source(1) } else { source(2) };
            assert!(fixture.bring(from, key, &stamped(key, n as u64, bits[n])));
        }
        if restarts {
            fixture.restart();
        }
        let kept = |fixture: &mut Fixture| -> Vec<_> {
            (0..9).filter(|n| fixture.has(&keys[*n])).collect()
        };
        // In a share that is the largest, work displaces what has none, and nothing else.
        assert!(!fixture.bring(source(1), &keys[6], &stamped(&keys[6], 6, 0)));
        assert!(fixture.bring(source(1), &keys[6], &stamped(&keys[6], 6, 8)));
        assert_eq!(kept(&mut fixture), [0, 1, 2, 3, 5, 6]);
        for key in &keys[7..] {
            assert!(fixture.bring(source(2), key, &stamped(key, 7, 0)));
        }
        assert_eq!(kept(&mut fixture), [2, 3, 5, 6, 7, 8]);
        // Then the least work goes first, and of equal work what was stored last.
        let others: Vec<_> =
            (0..3).map(|n| RecordKey::new(format!("/stamped/other/{n}"))).collect();
        assert!(!fixture.bring(source(1), &others[0], &stamped(&others[0], 20, 8)));
        assert!(fixture.bring(source(1), &others[0], &stamped(&others[0], 20, 9)));
        assert_eq!(kept(&mut fixture), [2, 3, 5, 7, 8]);
        fixture.store().forget(&keys[8]).unwrap();
        assert!(fixture.bring(source(1), &others[1], &stamped(&others[1], 21, 9)));
        // A space without work that replaces one with it has none.
        let now = fixture.clock.now();
        let mut again = signer(&keys[3], 3, Limits::default());
        again.learn(&decode(&keys[3], &stamped(&keys[3], 3, 9)));
        again.replace(text(5), now, HOUR).unwrap();
        assert!(fixture.bring(source(1), &keys[3], &again.record(now).encode()));
        assert!(fixture.bring(source(3), &others[2], &stamped(&others[2], 22, 0)));
        assert_eq!(kept(&mut fixture), [2, 5, 7]);
        assert!(others.iter().all(|key| fixture.has(key)));
    }
}

#[test]
fn a_source_that_hops_displaces_only_what_it_has_brought_itself() {
    let mut fixture = full(24);
    for n in 0..12 {
        assert!(fixture.value(1 + n as u8 / 4, n));
    }
    // From a hundred networks, one after the other, twice.
    let mut stored = 0;
    for n in 0..200_usize {
        let from = 10 + (n % 100) as u8;
        stored += (0..4).filter(|i| fixture.value(from, 100 + 4 * n + i)).count();
    }
    let honest = fixture.kept(12);
    // Those that have the most may lose down to what the hopping ones have each.
    assert!(honest.len() >= 3 && [0, 4, 8].iter().all(|n| honest.contains(n)), "{honest:?}");
    assert!(stored <= 100, "{stored} displaced each other");
}

/// The rule, in a few lines: the sources and instants of the records.
#[derive(Debug, Default)]
struct Model(BTreeMap<usize, (u8, usize)>);

impl Model {
    fn bring(&mut self, max: usize, source: u8, key: usize, at: usize) -> bool {
        if !self.0.contains_key(&key) && self.0.len() == max {
            let mut shares: BTreeMap<u8, usize> = BTreeMap::new();
            for (source, _) in self.0.values() {
                *shares.entry(*source).or_default() += 1;
            }
            *shares.entry(source).or_default() += 1;
            let largest = *shares.values().max().unwrap();
            if shares[&source] == largest {
                return false;
            }
            let losers = self.0.iter().filter(|(_, (source, _))| shares[source] == largest);
            let last = losers.max_by_key(|(_, (_, at))| *at).map(|(key, _)| *key);
            self.0.remove(&last.unwrap());
        }
        self.0.entry(key).or_insert((source, at));
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Bring(u8, usize),
    Forget(usize),
    Restart,
    Fail(u8, usize),
}

#[test]
fn any_history_keeps_the_shares_of_a_few_lines() {
    let step = prop_oneof![
        12 => (0_u8..6, 0_usize..40).prop_map(|(source, key)| Step::Bring(source, key)),
        // One source brings more than others.
        6 => (0_usize..40).prop_map(|key| Step::Bring(0, key)),
        2 => (0_usize..40).prop_map(Step::Forget),
        1 => Just(Step::Restart),
        1 => (0_u8..6, 0_usize..40).prop_map(|(source, key)| Step::Fail(source, key)),
    ];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let max = 12;
    runner
        .run(&vec(step, 1..120), |steps| {
            let (mut fixture, mut model) = (full(max), Model::default());
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Bring(from, n) => {
                        let expected = model.bring(max, from, n, at);
                        prop_assert_eq!(fixture.value(from, n), expected, "{:?}", &model);
                    }
                    Step::Forget(n) => {
                        fixture.store().forget(&key(n)).unwrap();
                        model.0.remove(&n);
                    }
                    Step::Restart => fixture.restart(),
                    Step::Fail(from, n) => {
                        // It may be known, or refused for want of room.
                        fixture.state.fail_applies.store(true, SeqCst);
                        fixture.store().asked_by(source(from));
                        fixture
                            .store()
                            .put(Record::new(kad_key(key(n)), b"other".to_vec()))
                            .unwrap();
                        fixture.state.mend();
                    }
                }
                let expected: Vec<_> = model.0.keys().copied().collect();
                prop_assert_eq!(fixture.kept(40), expected);
            }
            Ok(())
        })
        .unwrap();
}
