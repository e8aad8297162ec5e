//! The manager over a scripted backend.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::channel::oneshot;
use libp2p::identity::PeerId;
use libp2p_smart_record::{
    Bytes, Fault, Namespaces, Open, RecordKey, Timestamp,
    manager::{
        BackendAnswers, Correction, HeldValue, Holder, ManagerError, RecordBackend, RecordManager,
    },
    signed::{SignedRecordLimits, SignedRecordValidator, UnsignedRecord},
};

use smart_record_testing::ManualClock;

use super::{NOW, NOW_MICROS, keypair, record, rules};

/// A backend whose answers a test sets, and that records its calls.
#[derive(Clone, Debug, Default)]
struct Shelf(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    found: BackendAnswers,
    breaks: Option<Broken>,
    /// The next fetch has its answers, and returns when this is done.
    gate: Option<oneshot::Receiver<()>>,
    fetched: usize,
    stored: Vec<Bytes>,
    corrections: Vec<Correction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shelf is broken")]
struct Broken {
    for_good: bool,
}

impl RecordBackend for Shelf {
    type Error = Broken;

    async fn fetch(&self, _: &RecordKey) -> Result<BackendAnswers, Broken> {
        let (found, gate) = {
            let mut state = self.0.lock().unwrap();
            state.fetched += 1;
            (state.found.clone(), state.gate.take())
        };
        if let Some(gate) = gate {
            gate.await.unwrap();
        }
        Ok(found)
    }

    async fn put(&self, _: &RecordKey, value: Bytes) -> Result<usize, Broken> {
        let mut state = self.0.lock().unwrap();
        state.stored.push(value);
        match state.breaks {
            Some(broken) => Err(broken),
            None => Ok(3),
        }
    }

    fn has_stopped(error: &Broken) -> bool {
        error.for_good
    }

    async fn correct(&self, correction: Correction) {
        self.0.lock().unwrap().corrections.push(correction);
    }
}

impl Shelf {
    fn holds(&self, answers: &[(Holder, Bytes)]) {
        let lifetime = Some(Duration::from_secs(100));
        self.0.lock().unwrap().found.answers = answers
            .iter()
            .map(|(holder, value)| HeldValue { holder: *holder, value: value.clone(), lifetime })
            .collect();
    }

    fn take_corrections(&self) -> Vec<Correction> {
        std::mem::take(&mut self.0.lock().unwrap().corrections)
    }
}

const KEY: &str = "/notes/a";

fn peer(seed: u8) -> Holder {
    Holder::Peer(peer_id(seed))
}

fn peer_id(seed: u8) -> PeerId {
    keypair(seed).public().to_peer_id()
}

fn manager() -> (RecordManager<Shelf>, Shelf) {
    manager_with(rules())
}

fn manager_with(rules: Namespaces<SignedRecordValidator>) -> (RecordManager<Shelf>, Shelf) {
    let shelf = Shelf::default();
    let clock = ManualClock::at(NOW);
    (RecordManager::with_clock(keypair(1), rules, shelf.clone(), clock), shelf)
}

fn value(text: &'static str, sequence: u64) -> Bytes {
    record(2, KEY, text, sequence).encode()
}

#[tokio::test]
async fn the_best_answer_wins_in_any_order() {
    let mut answers = vec![
        (peer(10), value("old", 1)),
        (peer(11), value("new", 3)),
        (Holder::Local, value("older", 2)),
        (peer(12), value("new", 3)),
        (peer(13), Bytes::from_static(b"garbage")),
    ];
    for _ in 0..answers.len() {
        answers.rotate_left(1);
        let (manager, shelf) = manager();
        shelf.holds(&answers);
        let mut lookup = manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.best.unwrap().value(), b"new");
        assert_eq!(lookup.refused.len(), 1);
        assert_eq!(
            (lookup.refused[0].0, lookup.refused[0].1.fault()),
            (peer(13), Fault::Malformed)
        );
        lookup.behind.sort_unstable();
        let mut behind = [Holder::Local, peer(10)];
        behind.sort_unstable();
        assert_eq!(lookup.behind, behind);
    }
}

#[tokio::test]
async fn stale_holders_are_sent_the_best_record_and_dishonest_ones_are_not() {
    let (manager, shelf) = manager();
    shelf.holds(&[
        (Holder::Local, value("old", 1)),
        (peer(10), value("new", 2)),
        (peer(11), Bytes::from_static(b"garbage")),
    ]);
    shelf.0.lock().unwrap().found.missing = vec![peer(12)];
    manager.get(KEY).await.unwrap();
    assert_eq!(
        shelf.take_corrections(),
        [Correction {
            key: RecordKey::new(KEY),
            value: value("new", 2),
            lifetime: Some(Duration::from_secs(100)),
            holders: vec![Holder::Local, peer(12)],
        }]
    );
    shelf.0.lock().unwrap().found.missing.clear();
    shelf.holds(&[(Holder::Local, value("new", 2)), (peer(10), value("new", 2))]);
    manager.get(KEY).await.unwrap();
    assert_eq!(shelf.take_corrections(), [], "there is nothing to correct");
}

#[tokio::test]
async fn a_correction_expires_no_later_than_its_source() {
    let until = NOW.saturating_add(Duration::from_secs(30));
    let mortal = |expires_at: Timestamp| {
        UnsignedRecord::new(KEY, "mortal", 2)
            .until(expires_at)
            .sign(&keypair(2), &SignedRecordLimits::default())
            .unwrap()
            .encode()
    };
    let lifetimes = [
        // By its own expiry, or by the latest that the holders state.
        (mortal(until), [Some(100), Some(50)], Some(30)),
        (mortal(Timestamp::MAX), [Some(50), Some(100)], Some(100)),
        (mortal(until), [Some(10), Some(20)], Some(20)),
        (mortal(until), [Some(10), None], Some(30)),
        (value("immortal", 2), [Some(10), None], None),
    ];
    for (value, left, expected) in lifetimes {
        let (manager, shelf) = manager();
        let answers = left.iter().map(|left| HeldValue {
            holder: peer(10),
            value: value.clone(),
            lifetime: left.map(Duration::from_secs),
        });
        shelf.0.lock().unwrap().found = BackendAnswers {
            answers: answers.collect(),
            missing: vec![peer(11)],
            ..BackendAnswers::default()
        };
        manager.get(KEY).await.unwrap();
        let corrections = shelf.take_corrections();
        assert_eq!(corrections[0].lifetime, expected.map(Duration::from_secs));
    }
}

#[tokio::test]
async fn invalid_answers_change_nothing() {
    let forged = {
        let mut bytes = value("forged", 9).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Bytes::from(bytes)
    };
    let elsewhere = record(2, "/notes/b", "elsewhere", 9).encode();
    let future = value("too far ahead", NOW_MICROS * 2);
    let lies = [forged, elsewhere, future, Bytes::new(), Bytes::from(vec![0xff; 20_000])];
    for lie in &lies {
        let (manager, shelf) = manager();
        shelf.holds(&[(peer(10), lie.clone())]);
        for read in [manager.get_record(KEY).await.map(drop), manager.lookup(KEY).await.map(drop)] {
            let Err(ManagerError::AnswersRefused(refused)) = read else { panic!("{read:?}") };
            assert_eq!(refused.iter().len(), 1);
        }
        // More holders without a record say that there is none.
        shelf.0.lock().unwrap().found.missing = vec![peer(11), peer(12)];
        assert_eq!(manager.lookup(KEY).await.unwrap().refused.len(), 1);
        shelf.0.lock().unwrap().found.missing.clear();
        shelf.holds(&[(peer(10), lie.clone()), (peer(11), value("true", 1))]);
        assert_eq!(manager.get(KEY).await, Ok(Some(b"true".to_vec())));
        assert_eq!(shelf.take_corrections(), []);
        // They do not affect the sequence of the next record either.
        let published = manager.publish(KEY, "mine").await.unwrap();
        assert_eq!(published.record.sequence(), NOW_MICROS);
        assert_eq!(published.peers, 3);
    }
}

#[tokio::test]
async fn a_rollback_is_detected() {
    let (manager, shelf) = manager();
    shelf.holds(&[(peer(10), value("new", 2))]);
    manager.get(KEY).await.unwrap();
    shelf.holds(&[(peer(10), value("old", 1))]);
    let rolled_back = ManagerError::RolledBack { key: RecordKey::new(KEY), known: 2, found: 1 };
    assert_eq!(manager.get(KEY).await, Err(rolled_back.clone()));
    assert_eq!(manager.has_record(KEY).await, Err(rolled_back));
    assert_eq!(shelf.take_corrections(), [], "the old record is not sent");
    shelf.holds(&[(peer(10), value("newer", 3)), (peer(11), value("old", 1))]);
    assert_eq!(manager.get(KEY).await, Ok(Some(b"newer".to_vec())));
}

#[tokio::test]
async fn a_known_record_that_is_not_found_is_withheld() {
    let (manager, shelf) = manager();
    assert_eq!(manager.get(KEY).await, Ok(None));
    shelf.holds(&[(peer(10), value("new", 2))]);
    manager.get(KEY).await.unwrap();
    // No answer, or no valid one.
    let withheld = ManagerError::Withheld { key: RecordKey::new(KEY), known: 2 };
    for answers in [vec![], vec![(peer(10), Bytes::from_static(b"garbage"))]] {
        shelf.holds(&answers);
        assert_eq!(manager.get(KEY).await, Err(withheld.clone()));
        assert_eq!(manager.has_record(KEY).await, Err(withheld.clone()));
    }
    // It can still be published anew.
    let published = manager.publish(KEY, "mine").await.unwrap();
    assert_eq!(published.record.sequence(), NOW_MICROS);
    let withheld = ManagerError::Withheld { key: RecordKey::new(KEY), known: NOW_MICROS };
    assert_eq!(manager.get(KEY).await, Err(withheld));
}

#[tokio::test]
async fn what_is_published_during_a_lookup_is_not_missed_by_it() {
    let old = value("old", 1);
    for (found, answers) in [(None, vec![]), (Some(b"old".to_vec()), vec![(peer(10), old)])] {
        let (manager, shelf) = manager();
        for round in 0..2 {
            shelf.holds(&answers);
            let (open, gate) = oneshot::channel();
            shelf.0.lock().unwrap().gate = Some(gate);
            let publish = async {
                manager.publish(KEY, "new").await.unwrap();
                open.send(()).unwrap();
            };
            let (got, ()) = tokio::join!(manager.get(KEY), publish);
            if round == 0 {
                assert_eq!(got, Ok(found.clone()));
            } else {
                // Here it was known before.
                assert!(got.is_err(), "{got:?}");
            }
        }
        assert_eq!(shelf.take_corrections(), []);
    }
}

#[tokio::test]
async fn an_expired_record_is_neither_withheld_nor_rolled_back() {
    let brief = UnsignedRecord::new(KEY, "brief", 2)
        .until(NOW.saturating_add(Duration::from_secs(10)))
        .sign(&keypair(2), &SignedRecordLimits::default())
        .unwrap();
    let shelf = Shelf::default();
    let clock = ManualClock::at(NOW);
    let manager = RecordManager::with_clock(keypair(1), rules(), shelf.clone(), clock.clone());
    shelf.holds(&[(peer(10), brief.encode())]);
    assert_eq!(manager.get(KEY).await, Ok(Some(b"brief".to_vec())));
    clock.advance(Duration::from_secs(9));
    shelf.holds(&[(peer(10), value("old", 1))]);
    assert!(matches!(manager.get(KEY).await, Err(ManagerError::RolledBack { .. })));
    shelf.holds(&[]);
    assert!(matches!(manager.get(KEY).await, Err(ManagerError::Withheld { .. })));
    clock.advance(Duration::from_secs(1));
    assert_eq!(manager.get(KEY).await, Ok(None));
    shelf.holds(&[(peer(10), value("old", 1))]);
    assert_eq!(manager.get(KEY).await, Ok(Some(b"old".to_vec())));
    shelf.holds(&[]);
    assert_eq!(
        manager.get(KEY).await,
        Err(ManagerError::Withheld { key: RecordKey::new(KEY), known: 1 })
    );
}

#[tokio::test]
async fn an_own_record_is_known() {
    let (manager, shelf) = manager();
    let published = manager.publish(KEY, "mine").await.unwrap();
    shelf.holds(&[(peer(10), value("old", 1))]);
    assert!(matches!(manager.get(KEY).await, Err(ManagerError::RolledBack { .. })));
    shelf.holds(&[(peer(10), published.record.encode())]);
    assert_eq!(manager.get(KEY).await, Ok(Some(b"mine".to_vec())));
}

#[tokio::test]
async fn a_publish_reads_before_it_signs() {
    let (manager, shelf) = manager();
    // Ahead of the clock, within the allowed skew.
    let ahead = NOW_MICROS + 60_000_000;
    shelf.holds(&[(peer(10), value("theirs", ahead))]);
    let published = manager.publish(KEY, "mine").await.unwrap();
    assert_eq!(published.record.sequence(), ahead + 1);
}

#[tokio::test]
async fn keeping_ends_with_the_backend() {
    let (shelf, clock) = (Shelf::default(), ManualClock::at(NOW));
    let manager = RecordManager::with_clock(keypair(1), rules(), shelf.clone(), clock.clone());
    let hour = Duration::from_secs(3_600);
    let mut kept = manager.keep(KEY, "x", hour).await.unwrap();
    for for_good in [false, true] {
        clock.advance(hour);
        let broken = Broken { for_good };
        shelf.0.lock().unwrap().breaks = Some(broken);
        let ended = futures::FutureExt::now_or_never(kept.run());
        // It may be mended, unless it has stopped.
        assert_eq!(ended, for_good.then_some(ManagerError::Backend(broken)));
    }
}

#[tokio::test]
async fn a_sequence_is_not_used_again_after_a_failure() {
    let (manager, shelf) = manager();
    let broken = Broken { for_good: false };
    shelf.0.lock().unwrap().breaks = Some(broken);
    for _ in 0..3 {
        assert_eq!(manager.publish(KEY, "x").await, Err(ManagerError::Backend(broken)));
    }
    shelf.0.lock().unwrap().breaks = None;
    let published = manager.publish(KEY, "x").await.unwrap();
    assert_eq!(published.record.sequence(), NOW_MICROS + 3);
    let mut stored = shelf.0.lock().unwrap().stored.clone();
    stored.dedup();
    assert_eq!(stored.len(), 4);
}

#[tokio::test]
async fn a_refused_publish_makes_no_requests() {
    let (manager, shelf) = manager();
    let key = RecordKey::new(format!("/own/{}/a", peer_id(2)));
    assert!(matches!(manager.publish(key, "x").await, Err(ManagerError::Refused(_))));
    assert!(matches!(manager.publish(KEY, vec![0; 6_145]).await, Err(ManagerError::Refused(_))));
    assert!(matches!(manager.publish("/nowhere/a", "x").await, Err(ManagerError::Refused(_))));
    let state = shelf.0.lock().unwrap();
    assert_eq!((state.fetched, state.stored.len()), (0, 0));
}

#[tokio::test]
async fn the_maximum_sequence_can_be_used() {
    let limits = SignedRecordLimits::default().with_max_clock_skew(Duration::MAX);
    let rules = SignedRecordValidator::new(limits, Open);
    let rules = Namespaces::empty().with("notes", rules).unwrap();
    let (manager, shelf) = manager_with(rules);
    shelf.holds(&[(peer(10), value("one below the maximum", u64::MAX - 1))]);
    let published = manager.publish(KEY, "the last").await.unwrap();
    assert_eq!(published.record.sequence(), u64::MAX);
    assert_eq!(
        manager.publish(KEY, "one more").await,
        Err(ManagerError::SequenceExhausted(RecordKey::new(KEY)))
    );
}

#[tokio::test]
async fn a_backend_need_not_correct() {
    /// A backend that always has the same answer.
    struct Stone;

    impl RecordBackend for Stone {
        type Error = Infallible;

        async fn fetch(&self, _: &RecordKey) -> Result<BackendAnswers, Infallible> {
            let answer = HeldValue { holder: peer(10), value: value("set", 1), lifetime: None };
            Ok(BackendAnswers {
                answers: vec![answer],
                missing: vec![Holder::Local],
                ..BackendAnswers::default()
            })
        }

        async fn put(&self, _: &RecordKey, _: Bytes) -> Result<usize, Infallible> {
            Ok(0)
        }

        fn has_stopped(_: &Infallible) -> bool {
            false
        }

        async fn correct(&self, _: Correction) {}
    }

    let manager = RecordManager::new(keypair(1), rules(), Stone);
    let lookup = manager.lookup(KEY).await.unwrap();
    assert_eq!(lookup.best.unwrap().value(), b"set");
    assert_eq!(lookup.behind, [Holder::Local]);
}
