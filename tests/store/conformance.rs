//! Conformance suite of storages, against a model.

use super::*;

type Row = (Vec<u8>, Option<u64>, Option<u64>);
type Model = BTreeMap<PartId, Row>;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Apply(Vec<(PartId, Option<Row>)>),
    Get(PartId),
    Scan(PartId, PartId),
    Last(PartId),
    Due(u64, usize),
    Tally(u8, u64, u64),
    Note(u8, Option<Vec<u8>>),
    Commit,
}

/// Few ids, so that they collide, among them the first and the last possible ones, and two that
/// begin alike.
fn id() -> impl Strategy<Value = PartId> {
    let byte = || prop_oneof![Just(0), Just(1), Just(2), Just(0xff)];
    let id = |byte: u8| {
        let mut id = [byte; 32];
        id[..8].fill(if byte == 2 { 1 } else { byte });
        id
    };
    (byte(), byte()).prop_map(move |(record, space)| RecordId(id(record)).part(SpaceId(id(space))))
}

fn row() -> impl Strategy<Value = Row> {
    let time = || option::of(prop_oneof![0_u64..6, Just(u64::MAX)]);
    (vec(any::<u8>(), 0..20), time(), time())
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => vec((id(), option::of(row())), 0..6).prop_map(Op::Apply),
        1 => id().prop_map(Op::Get),
        1 => (id(), id()).prop_map(|(from, last)| Op::Scan(from, last)),
        1 => id().prop_map(Op::Last),
        1 => (prop_oneof![0_u64..7, Just(u64::MAX)], 0_usize..8).prop_map(|(t, n)| Op::Due(t, n)),
        1 => (0_u8..3, 0_u64..3, 0_u64..3).prop_map(|(id, n, bytes)| Op::Tally(id, n, bytes)),
        1 => (0_u8..3, option::of(vec(any::<u8>(), 0..4))).prop_map(|(id, note)| Op::Note(id, note)),
        1 => Just(Op::Commit),
    ];
    vec(op, 1..40)
}

fn part(row: &Row) -> Part<'static> {
    Part {
        bytes: Cow::Owned(row.0.clone()),
        due_at: row.1.map(Timestamp::from_millis),
        expires_at: row.2.map(Timestamp::from_millis),
        stored_at: Timestamp::from_millis(row.0.len() as u64),
        digest: row.0.first().map(|byte| [*byte; 32]),
    }
}

pub(super) fn check<S: Storage>(storage: &mut S, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut tallies = BTreeMap::new();
    let mut notes = BTreeMap::new();
    for op in ops {
        match op {
            Op::Apply(changes) => {
                // In order: of several changes of one row the last one wins.
                for (id, row) in changes {
                    match row {
                        Some(row) => model.insert(*id, row.clone()),
                        None => model.remove(id),
                    };
                }
                let changes = changes.iter().map(|(id, row)| match row {
                    Some(row) => Change::Set(*id, part(row)),
                    None => Change::Remove(*id),
                });
                storage.apply(changes.collect()).unwrap();
            }
            Op::Get(id) => {
                prop_assert_eq!(storage.get(id).unwrap(), model.get(id).map(part));
            }
            Op::Scan(from, last) => {
                let found: Vec<_> = storage.scan(*from..=*last).map(Result::unwrap).collect();
                let rows = model.iter().filter(|(id, _)| (from..=last).contains(id));
                prop_assert_eq!(found, rows.map(|(id, row)| (*id, part(row))).collect::<Vec<_>>());
            }
            Op::Last(up_to) => {
                let last = model.range(..=up_to).next_back().map(|(id, _)| *id);
                prop_assert_eq!(storage.last(up_to).unwrap(), last);
            }
            Op::Due(now, max) => {
                let found = storage.due(Timestamp::from_millis(*now), *max).unwrap();
                let times: Vec<_> = found.iter().map(|id| model[id].1.unwrap()).collect();
                let mut due: Vec<_> = model.values().filter_map(|row| row.1).collect();
                due.retain(|at| at <= now);
                due.sort_unstable();
                due.truncate(*max);
                prop_assert_eq!(times, due, "the longest due first");
                let distinct: BTreeSet<_> = found.iter().collect();
                prop_assert_eq!(distinct.len(), found.len());
            }
            Op::Tally(id, count, bytes) => {
                let (id, tally) = (TallyId([*id; 16]), Tally { count: *count, bytes: *bytes });
                storage.apply(vec![Change::Tally(id, tally)]).unwrap();
                tallies.insert(id, tally);
            }
            Op::Note(id, note) => {
                storage.apply(vec![Change::Note(vec![*id], note.clone())]).unwrap();
                match note {
                    Some(note) => notes.insert(vec![*id], note.clone()),
                    None => notes.remove(&vec![*id]),
                };
            }
            Op::Commit => storage.commit().unwrap(),
        }
        let usage = Usage {
            records: model.keys().filter(|id| id.space == SpaceId::HEAD).count(),
            bytes: model.values().map(|row| row.0.len() + Usage::ROW).sum(),
        };
        prop_assert_eq!(storage.usage(), usage);
    }
    for id in (0..3).map(|id| TallyId([id; 16])) {
        let tally = tallies.get(&id).copied().unwrap_or_default();
        prop_assert_eq!(storage.tally(&id).unwrap(), tally);
    }
    prop_assert_eq!(storage.notes().unwrap(), notes.into_iter().collect::<Vec<_>>());
    let all: Vec<_> = storage.scan(PartId::ALL).map(Result::unwrap).collect();
    let rows = model.iter().map(|(id, row)| (*id, part(row)));
    prop_assert_eq!(all, rows.collect::<Vec<_>>());
    Ok(())
}

/// Runs the suite on storages made by `make`, which have to be empty.
pub(super) fn run<S: Storage>(cases: u32, make: impl Fn() -> S) {
    let config = ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    TestRunner::new(config).run(&ops(), |ops| check(&mut make(), &ops)).unwrap();
}

#[test]
fn memory_storage_conforms() {
    run(512, MemoryStorage::default);
}

#[test]
fn parts_are_ordered_by_distance_then_rank() {
    // The XOR of the ids of two keys is that of their digests, whichever peer is local.
    let (a, b) = (RecordKey::new("a"), RecordKey::new("b"));
    let xor =
        |x: [u8; 32], y: [u8; 32]| -> Vec<u8> { x.iter().zip(y).map(|(x, y)| x ^ y).collect() };
    for of in [local(), peer(1)] {
        let (x, y) = (RecordId::new(&of, &a).0, RecordId::new(&of, &b).0);
        assert_eq!(xor(x, y), xor(a.digest(), b.digest()));
        // It equals Kademlia's distance.
        let (kad_peer, kad_a, kad_b) = (
            kad::KBucketKey::from(of),
            kad::KBucketKey::from(a.as_bytes().to_vec()),
            kad::KBucketKey::from(b.as_bytes().to_vec()),
        );
        let (da, db) = (kad_peer.distance(&kad_a), kad_peer.distance(&kad_b));
        assert_eq!(x.cmp(&y), da.cmp(&db));
    }
    let id = RecordId([5; 32]);
    assert!(PartId::MIN <= id.head() && id.head() < id.part(SpaceId([1; 32])));
    assert!(id.part(SpaceId::MAX) < RecordId([6; 32]).head());
    assert!(id.part(SpaceId::MAX) < PartId::MAX);
}
