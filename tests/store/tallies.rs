//! Tallies and heads always match a scan.

use std::collections::HashMap;

use libp2p_identity::PublicKey;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message;

use super::*;

/// The part of `proto/storage.proto` that is needed.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    board: Option<Board>,
    #[prost(message, optional, tag = "3")]
    opaque: Option<Opaque>,
}

#[derive(Clone, PartialEq, Message)]
struct Board {
    #[prost(uint32, tag = "1")]
    spaces: u32,
    #[prost(uint64, tag = "2")]
    bytes: u64,
    #[prost(uint32, tag = "3")]
    protected_spaces: u32,
    #[prost(uint64, tag = "4")]
    protected_bytes: u64,
    #[prost(fixed64, tag = "5")]
    protected_by: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Opaque {
    #[prost(bool, tag = "6")]
    is_local: bool,
}

#[derive(Clone, PartialEq, Message)]
struct SpaceRow {
    #[prost(bytes = "vec", tag = "1")]
    public_key: Vec<u8>,
}

const PROTECTED: [u64; 2] = [0, u64::MAX];

/// Compares tallies and heads with the rows.
fn check(rows: &Shared) -> Result<(), TestCaseError> {
    let mut tallies: HashMap<TallyId, Tally> = HashMap::new();
    let mut charge = |id, count, bytes: usize| {
        let tally = tallies.entry(id).or_default();
        tally.count += count;
        tally.bytes += (bytes + Usage::ROW) as u64;
    };
    let mut boards: BTreeMap<RecordId, (Board, Option<Board>)> = BTreeMap::new();
    let mut key = RecordKey::new("");
    for row in rows.scan(PartId::ALL) {
        let (id, part) = row.unwrap();
        let len = part.bytes.len();
        if id.space == SpaceId::HEAD {
            let head = Head::decode(&part.bytes[..]).unwrap();
            key = RecordKey::new(head.key);
            prop_assert_eq!(RecordId::new(&local(), &key), id.record);
            charge(TallyId::namespace(key.namespace().unwrap()), 1, len);
            if head.opaque.is_some_and(|opaque| opaque.is_local) {
                charge(TallyId::writer(&local()), 1, len);
            }
            boards.insert(id.record, (Board::default(), head.board));
            continue;
        }
        let space = SpaceRow::decode(&part.bytes[..]).unwrap();
        let writer = PublicKey::try_decode_protobuf(&space.public_key).unwrap().to_peer_id();
        charge(TallyId::writer(&writer), 1, len);
        charge(TallyId::namespace(key.namespace().unwrap()), 0, len);
        let (board, _) = boards.get_mut(&id.record).expect("a head before its spaces");
        board.spaces += 1;
        board.bytes += len as u64;
        if PROTECTED.map(peer).contains(&writer) {
            board.protected_spaces += 1;
            board.protected_bytes += len as u64;
        }
    }
    for (scanned, head) in boards.into_values() {
        prop_assert_eq!(head.is_some(), scanned.spaces > 0);
        if let Some(head) = head {
            prop_assert_eq!(Board { protected_by: 0, ..head }, scanned);
        }
    }
    let writers = (0..8).chain([u64::MAX]).map(|n| TallyId::writer(&peer(n)));
    let namespaces = ["sr", "any", "number"].map(TallyId::namespace);
    for id in writers.chain(namespaces) {
        let scanned = tallies.remove(&id).unwrap_or_default();
        prop_assert_eq!(rows.tally(&id).unwrap(), scanned);
    }
    prop_assert!(tallies.is_empty());
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Board { key: u8, writer: u64, size: usize, ttl: u64 },
    Value { key: u8, size: usize, ttl: u64, is_local: bool },
    Forget(u8),
    Wait(u64),
    Collect,
    Fail(usize),
    FailReads,
    Mend,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = || prop_oneof![4 => 0_u64..8, 1 => Just(u64::MAX)];
    let size = || prop_oneof![0_usize..20, 0_usize..400];
    let step = prop_oneof![
        14 => (0_u8..3, writer(), size(), 1_u64..300)
            .prop_map(|(key, writer, size, ttl)| Step::Board { key, writer, size, ttl }),
        6 => (0_u8..6, 0_usize..900, 1_u64..300, any::<bool>())
            .prop_map(|(key, size, ttl, is_local)| Step::Value { key, size, ttl, is_local }),
        1 => (0_u8..6).prop_map(Step::Forget),
        3 => (1_u64..20).prop_map(Step::Wait),
        1 => Just(Step::Collect),
        1 => (0_usize..3).prop_map(Step::Fail),
        1 => Just(Step::FailReads),
        6 => Just(Step::Mend),
        1 => Just(Step::Reopen),
    ];
    vec(step, 20..160)
}

/// The bound of the store: eight rows of a usual size.
const MAX_BYTES: usize = 4_976 + 8 * Usage::ROW;

fn open(rows: &Shared, clock: &ManualClock) -> (SmartRecordStore, Arc<probe::ProbeState>) {
    let limits = Limits::default().with_spaces_per_record(3);
    let registry = Registry::empty()
        .with("sr", SpaceRules::new(limits, Open))
        .unwrap()
        .with_fallback(AcceptAny::default());
    let config = StoreConfig::default()
        .with_max_records(4)
        .with_max_bytes(MAX_BYTES)
        .with_max_record_bytes(900 + 3 * Usage::ROW)
        .with_writer_quota(Quota { count: 1, bytes: 644 + 2 * Usage::ROW })
        .with_protected_quota(Quota { count: 3, bytes: 1_616 + 3 * Usage::ROW })
        .with_namespace_quota("any", Quota { count: 3, bytes: 2_116 + 3 * Usage::ROW })
        .with_namespace_quota("sr", Quota { count: 2, bytes: 4_232 + 6 * Usage::ROW })
        .with_protected(PROTECTED[..1].iter().copied().map(peer));
    let probe = Probe::over(rows.share());
    let state = probe.state();
    (
        SmartRecordStore::with_storage(local(), registry, config, probe, clock.clone()).unwrap(),
        state,
    )
}

#[test]
fn tallies_and_heads_are_what_a_scan_gives() {
    // The same histories in each run, so that their effects are certain.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    // Each kind of refusal and eviction has to occur, or the test shows nothing.
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let evicted = std::cell::Cell::new((0, 0));
    runner
        .run(&steps(), |steps| {
            let clock = ManualClock::at(Timestamp::from_millis(T0));
            let rows = Shared::default();
            let (mut store, mut state) = open(&rows, &clock);
            let mut heard = store.subscribe();
            for step in steps {
                match step {
                    Step::Board { key, writer, size, ttl } => {
                        let key = RecordKey::new(format!("/sr/{key}"));
                        let mut signer = signer(&key, writer, Limits::default());
                        let ttl = Duration::from_secs(ttl);
                        signer.merge(text(size), clock.now(), ttl).unwrap();
                        put(&mut store, &key, signer.record(clock.now()).encode());
                    }
                    Step::Value { key, size, ttl, is_local } => {
                        let mut record = Record::new(kad_key(format!("/any/{key}")), vec![1; size]);
                        record.expires = Some(Instant::now() + Duration::from_secs(ttl));
                        record.publisher = is_local.then(local);
                        let _ = store.put(record);
                    }
                    Step::Forget(key) => {
                        let _ = store.forget(&RecordKey::new(format!("/sr/{key}")));
                        store.remove(&kad_key(format!("/any/{key}")));
                    }
                    Step::Wait(seconds) => clock.advance(Duration::from_secs(seconds)),
                    Step::Collect => drop(store.collect()),
                    Step::Fail(after) => state.fail_applies_after(after),
                    Step::FailReads => state.fail_reads.store(true, SeqCst),
                    Step::Mend => state.mend(),
                    Step::Reopen => {
                        let counters = store.counters();
                        let (records, spaces) = evicted.get();
                        let records = records + counters.records_evicted;
                        evicted.set((records, spaces + counters.spaces_evicted));
                        rows.reopen();
                        (store, state) = open(&rows, &clock);
                        heard = store.subscribe();
                    }
                }
                check(&rows)?;
                let usage = store.usage();
                prop_assert!(usage.records <= 4 && usage.bytes <= MAX_BYTES);
                for event in events(&mut heard) {
                    if let StoreEvent::Refused {
                        reason: ValidationError::LimitExceeded(limit),
                        ..
                    } = event
                    {
                        seen.borrow_mut().insert(limit.limit);
                    }
                }
            }
            state.mend();
            clock.advance(HOUR);
            store.collect().unwrap();
            prop_assert_eq!(store.usage(), Usage::default());
            check(&rows)
        })
        .unwrap();
    let expected = [
        Limit::SPACES_PER_RECORD,
        StoreConfig::RECORD_BYTES,
        StoreConfig::WRITER_SPACES,
        StoreConfig::WRITER_BYTES,
        StoreConfig::NAMESPACE_RECORDS,
        StoreConfig::NAMESPACE_BYTES,
        StoreConfig::STORE_RECORDS,
        StoreConfig::STORE_BYTES,
    ];
    assert_eq!(seen.into_inner(), expected.into_iter().collect());
    let (records, spaces) = evicted.get();
    assert!(records > 0 && spaces > 0);
}
