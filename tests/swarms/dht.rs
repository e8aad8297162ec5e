//! Writing and reading over a bare `kad::Behaviour` with [`Dht`], in real swarms over TCP.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use crate::driven::{Driven, Kad, add_silent, drive_until};
use crate::nodes::{Node, PROTOCOL, Stored, says, signer, start, start_plain, start_with, within};
use futures::{FutureExt, StreamExt, future::join_all};
use libp2p::{
    Swarm,
    identity::Keypair,
    kad::{self, store::RecordStore},
};
use libp2p_smart_record::{
    AcceptAny, AllowList, Clock, Fault, Limits, Malformed, RecordKey, Registry, SmartRecord,
    SpaceRules, SystemClock, Timestamp, ValidationError, Validator, Validity, best_index,
    dht::{Dht, DhtConfig, DhtDriver, DhtError},
    store::{SmartRecordStore, StoreConfig, WriteError},
};

pub const KEY: &str = "/sr/rooms/lobby";

async fn driven() -> Driven {
    driven_by(Registry::default()).await
}

async fn driven_by(registry: Registry) -> Driven {
    Driven::start(Keypair::generate_ed25519(), registry, DhtConfig::default(), |_| {}).await
}

/// A board of `writers` spaces with `bytes` of text each.
pub fn board(writers: usize, bytes: usize) -> SmartRecord {
    let key = RecordKey::new(KEY);
    let mut board = SmartRecord::new(key.clone());
    for _ in 0..writers {
        board.join(says(&mut signer(&key), &"x".repeat(bytes))).unwrap();
    }
    board
}

/// Stores a value at a node directly.
pub async fn give(node: &Node, key: &str, value: Vec<u8>) {
    let key = RecordKey::new(key);
    let write = move |store: &mut SmartRecordStore| store.write(&key, &value).map(drop);
    node.store(write).await.unwrap().unwrap();
}

async fn value_of(node: &Node, key: &str) -> Option<Vec<u8>> {
    let key = RecordKey::new(key);
    let value = node.store(move |store| store.value(&key));
    value.await.unwrap().unwrap().map(|stored| stored.value.to_vec())
}

#[tokio::test]
async fn a_put_record_is_read_by_another_node() {
    let (ada, bob, hub) = (driven().await, driven().await, start().await);
    ada.meet(&hub).await;
    bob.meet(&hub).await;
    within(async {
        assert!(bob.dht.get(KEY).await.unwrap().is_empty());
        let mut signer = signer(&KEY.into());
        let said = says(&mut signer, "hello");
        let mut took = ada.dht.put(KEY, said.encode()).await.unwrap();
        took.sort_unstable();
        assert!(took.contains(&hub.peer()));
        let reading = bob.dht.get(KEY).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&said));
        assert!(reading.is_complete());
        let newest = said.space(&signer.writer()).unwrap().newest().unwrap();
        let mut holders = reading.holders_of(&signer.writer(), newest);
        holders.push(bob.peer);
        assert!(
            took.iter().all(|peer| holders.contains(peer)),
            "the holders are those that acknowledged"
        );
    })
    .await;
}

#[tokio::test]
async fn case_9_a_key_without_form_or_namespace_is_an_error_when_it_is_read() {
    let reader = driven_by(libp2p_smart_record::built_in()).await;
    within(async {
        for (key, fault) in [
            ("/unheard/of", Fault::Unsupported),
            ("lobby", Fault::Unsupported),
            (
                "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
                Fault::Malformed,
            ),
            ("/presence/nobody/", Fault::Malformed),
            ("/iprs/name", Fault::RefusedByPolicy),
        ] {
            let read = reader.dht.get(key).await.unwrap_err();
            assert_eq!(read.fault(), Some(fault), "{key}: {read}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_board_larger_than_a_slice_is_read_whole_from_partial_holders() {
    let reader = driven().await;
    let (replicas, board) = ([start().await, start().await, start().await], board(60, 600));
    for (n, replica) in replicas.iter().enumerate() {
        reader.meet(replica).await;
        // Each node lacks a third; the whole is ten slices.
        let mut part = SmartRecord::new(KEY.into());
        for (_, (writer, space)) in board.spaces().enumerate().filter(|(m, _)| m % 3 != n) {
            part.join_space(writer.clone(), space.clone());
        }
        give(replica, KEY, part.encode()).await;
    }
    within(async {
        let reading = reader.dht.get(KEY).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
        assert!(reading.is_complete());
        assert_eq!((reading.holders.len(), reading.refused.len()), (3, 0));
        assert!(reading.stale.is_empty() && reading.withheld.is_empty());
    })
    .await;
}

#[tokio::test]
async fn when_the_rounds_run_out_the_reading_is_not_complete() {
    let config = DhtConfig::default().with_read_rounds(2);
    let reader = Driven::start(Keypair::generate_ed25519(), Registry::default(), config, |_| {});
    let (reader, replica, board) = (reader.await, start().await, board(60, 600));
    reader.meet(&replica).await;
    give(&replica, KEY, board.encode()).await;
    within(async {
        let reading = reader.dht.get(KEY).await.unwrap();
        assert!(!reading.is_complete());
        let read = reading.snapshot.record().unwrap().spaces().len();
        assert!((1..board.spaces().len()).contains(&read), "{read}");
    })
    .await;
}

#[tokio::test]
async fn a_put_of_several_chunks_is_stored_here_and_taken_whole_by_all() {
    let writer = driven().await;
    let (replicas, board) = ([start().await, start().await, start().await], board(60, 600));
    for replica in &replicas {
        writer.meet(replica).await;
    }
    assert!(board.chunks(StoreConfig::default().chunk_bytes()).count() > 2);
    within(async {
        let mut took = writer.dht.put(KEY, board.encode()).await.unwrap();
        took.sort_unstable();
        let mut all = replicas.each_ref().map(Node::peer);
        all.sort_unstable();
        assert_eq!(took, all);
        for replica in &replicas {
            assert_eq!(replica.stored(&KEY.into()).await.unwrap(), Some(board.clone()));
        }
        let here = writer.kad(|kad| kad.store_mut().record(&KEY.into())).await;
        assert_eq!(here, Ok(Some(board.clone())));
    })
    .await;
}

#[tokio::test]
async fn case_15_a_read_of_which_all_answers_are_refused_is_an_error_with_the_reasons() {
    let (reader, liar) = (driven().await, start_plain(kad::Config::new(PROTOCOL)).await);
    let at = SystemClock.now().saturating_add(Duration::from_secs(600));
    let mut signer = signer(&KEY.into());
    signer.merge([("text", "soon")].into_iter().collect(), at, Duration::from_secs(600)).unwrap();
    let record = kad::Record::new(KEY.as_bytes().to_vec(), signer.record(at).encode());
    liar.store(|store| store.put(record)).await.unwrap().unwrap();
    reader.meet(&liar).await;
    within(async {
        let error = reader.dht.get(KEY).await.unwrap_err();
        assert_eq!(error.fault(), Some(Fault::LimitExceeded));
        assert!(error.to_string().contains("s ahead of this clock"), "{error}");
        assert!(matches!(error, DhtError::AnswersRefused(refused) if refused.is_ahead_of_clock()));
    })
    .await;
}

#[tokio::test]
async fn forged_and_foreign_answers_change_nothing() {
    let plain = || start_plain(kad::Config::new(PROTOCOL));
    let (reader, honest) = (driven().await, start().await);
    let (forger, babbler) = (plain().await, plain().await);
    let board = board(3, 10);
    let mut forged = board.encode();
    // Changes the last signature.
    *forged.last_mut().unwrap() ^= 1;
    let mut foreign = SmartRecord::new("/sr/rooms/other".into());
    let mut elsewhere = signer(foreign.key());
    foreign.join(says(&mut elsewhere, "about another key")).unwrap();
    give(&honest, KEY, board.encode()).await;
    reader.meet(&honest).await;
    for (liar, value) in [(&forger, forged), (&babbler, foreign.encode())] {
        let record = kad::Record::new(KEY.as_bytes().to_vec(), value);
        liar.store(|store| store.put(record)).await.unwrap().unwrap();
        reader.meet(liar).await;
    }
    within(async {
        let reading = reader.dht.get(KEY).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
        let fault = |peer| reading.refused.iter().find(|(p, _)| *p == peer).map(|(_, e)| e.fault());
        assert_eq!(fault(babbler.peer()), Some(Fault::Invalid));
        assert!(!reading.holders.contains(&babbler.peer()));
        assert!(!reading.view().iter().any(|(writer, _)| *writer == elsewhere.writer()));
    })
    .await;
}

#[tokio::test]
async fn the_known_part_of_a_record_is_sent_although_the_rest_is_refused() {
    let (known, mut all) = (board(2, 10), board(1, 10));
    all.join(known.clone()).unwrap();
    let allowed: AllowList = known.spaces().map(|(writer, _)| writer.peer_id()).collect();
    let rules = SpaceRules::new(Limits::default(), allowed);
    let ada = driven_by(Registry::default().with("sr", rules).unwrap()).await;
    let replica = start().await;
    ada.meet(&replica).await;
    within(async {
        for _ in 0..2 {
            assert_eq!(ada.dht.put(KEY, all.encode()).await.unwrap(), [replica.peer()]);
            assert_eq!(replica.stored(&KEY.into()).await.unwrap(), Some(known.clone()));
            replica.store(|store| store.forget(&KEY.into())).await.unwrap().unwrap();
        }
    })
    .await;
}

/// Prefers the longest text.
struct Longest;

impl Validator for Longest {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        std::str::from_utf8(value)
            .map(|_| Validity::forever())
            .map_err(|e| Malformed::other(e).into())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter().map(|value| value.len()))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

/// Sorted sets of letters, which are consolidated by union.
struct Letters;

impl Validator for Letters {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let is_good = value.is_sorted_by(|a, b| a < b);
        is_good.then(Validity::forever).ok_or_else(|| Malformed::other("no set").into())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter().map(|value| (value.len(), *value)))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    fn consolidate(&self, _: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        let mut all = values.concat();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        part.iter().all(|letter| whole.contains(letter))
    }
}

fn values() -> Registry {
    let values = Registry::empty().with("longest", Longest).unwrap();
    values.with("letters", Letters).unwrap()
}

#[tokio::test]
async fn the_best_valid_value_is_read_and_combining_values_are_consolidated() {
    let reader = driven_by(values()).await;
    let mut nodes = Vec::new();
    let lenient = || Registry::empty().with_fallback(AcceptAny::default());
    for (longest, letters) in [("a", "ab"), ("ccc", "bcd"), ("bb", "e")] {
        let node = start_with(values(), StoreConfig::default(), |_| {}).await;
        give(&node, "/longest/x", longest.into()).await;
        give(&node, "/letters/x", letters.into()).await;
        nodes.push(node);
    }
    let liar = start_with(lenient(), StoreConfig::default(), |_| {}).await;
    give(&liar, "/longest/x", vec![0xff; 9]).await;
    give(&liar, "/letters/x", b"zz".to_vec()).await;
    nodes.push(liar);
    for node in &nodes {
        reader.meet(node).await;
    }
    within(async {
        for (key, value) in [("/longest/x", "ccc"), ("/letters/x", "abcde")] {
            let reading = reader.dht.get(key).await.unwrap();
            assert_eq!(reading.snapshot.value().map(|v| &v[..]), Some(value.as_bytes()));
            assert_eq!(reading.values().count(), 3);
            let [(peer, error)] = &reading.refused[..] else { panic!("{:?}", reading.refused) };
            assert_eq!((*peer, error.fault()), (nodes[3].peer(), Fault::Malformed));
            assert!(reading.is_complete());
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_is_put_verbatim_and_refused_locally_if_invalid_worse_or_too_large() {
    let writer = driven_by(values()).await;
    let replica = start_with(values(), StoreConfig::default(), |_| {}).await;
    writer.meet(&replica).await;
    within(async {
        let key = "/longest/x";
        assert_eq!(writer.dht.put(key, "long").await, Ok(vec![replica.peer()]));
        assert_eq!(value_of(&replica, key).await, Some(b"long".to_vec()));
        for (value, fault) in [
            (vec![0xff], Fault::Malformed),
            (b"no".to_vec(), Fault::Stale),
            (vec![b'x'; 16 * 1_024], Fault::LimitExceeded),
        ] {
            let Err(DhtError::Refused(WriteError::Refused(reason))) =
                writer.dht.put(key, value).await
            else {
                panic!("refused");
            };
            assert_eq!(reason.fault(), fault);
        }
        assert_eq!(value_of(&replica, key).await, Some(b"long".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn case_5_a_put_of_a_value_that_is_older_than_what_there_is_is_stale_and_not_sent() {
    let writer = driven_by(values()).await;
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    writer.meet(&plain).await;
    let at_plain = async |key: &'static str| {
        let key = kad::RecordKey::new(&key);
        plain.store(move |store| store.get(&key).map(|it| it.value.clone())).await.unwrap()
    };
    within(async {
        for (key, value) in [("/longest/x", "longer"), ("/letters/x", "ab")] {
            let record = kad::Record::new(kad::RecordKey::new(&key), value.into());
            plain.store(move |store| store.put(record)).await.unwrap().unwrap();
        }
        let stale = writer.dht.put("/longest/x", "old").await.unwrap_err();
        assert_eq!(stale.fault(), Some(Fault::Stale), "{stale}");
        assert_eq!(at_plain("/longest/x").await, Some(b"longer".to_vec()));
        // Values that combine are sent with what there is.
        writer.dht.put("/letters/x", "bc").await.unwrap();
        assert_eq!(at_plain("/letters/x").await, Some(b"abc".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn a_plain_node_has_both_writers_of_two_puts() {
    let (ada, bob) = (driven().await, driven().await);
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    ada.meet(&plain).await;
    bob.meet(&plain).await;
    within(async {
        let key = RecordKey::new(KEY);
        let (from_ada, from_bob) = (says(&mut signer(&key), "a"), says(&mut signer(&key), "b"));
        ada.dht.put(KEY, from_ada.encode()).await.unwrap();
        bob.dht.put(KEY, from_bob.encode()).await.unwrap();
        let mut both = from_ada;
        both.join(from_bob).unwrap();
        let kad_key = kad::RecordKey::new(&key);
        let has = plain.store(move |store| store.get(&kad_key).map(|it| it.value.clone())).await;
        assert_eq!(has.unwrap(), Some(both.encode()));
    })
    .await;
}

#[tokio::test]
async fn an_encoded_smart_record_is_put_and_a_refusal_is_an_error() {
    let (writer, replica) = (driven().await, start().await);
    writer.meet(&replica).await;
    within(async {
        let board = board(30, 600);
        assert_eq!(writer.dht.put(KEY, board.encode()).await, Ok(vec![replica.peer()]));
        assert_eq!(replica.stored(&KEY.into()).await.unwrap(), Some(board));
        // An hour ahead of the clock. The earlier update beside it is already known.
        let mut signer = signer(&KEY.into());
        writer.dht.put(KEY, says(&mut signer, "now").encode()).await.unwrap();
        let now = SystemClock.now();
        let later = now.saturating_add(Duration::from_secs(3_600));
        let document = [("text", "later")].into_iter().collect();
        signer.merge(document, later, Duration::from_secs(60)).unwrap();
        let error = writer.dht.put(KEY, signer.record(now).encode()).await.unwrap_err();
        assert!(matches!(error, DhtError::Refused(WriteError::Refused(_))), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_lone_node_reports_no_acknowledgement_and_reads_its_own_copy() {
    let (alone, said) = (driven().await, board(1, 10));
    within(async {
        assert_eq!(alone.dht.put(KEY, said.encode()).await, Err(DhtError::NotReplicated));
        let reading = alone.dht.get(KEY).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&said));
        assert!(!reading.is_complete() && !reading.has_reached_anyone());
        assert!(alone.dht.get("/sr/other").await.unwrap().is_empty(), "it has no peers");
        // Nobody listens there any more.
        let nowhere = crate::peer::Silent::start().address();
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        for (key, is_known) in [("/sr/other", false), (KEY, true)] {
            let nowhere = nowhere.clone();
            alone.kad(move |kad| kad.add_address(&peer, nowhere)).await;
            let reading = alone.dht.get(key).await;
            match is_known {
                true => assert!(!reading.unwrap().has_reached_anyone()),
                false => assert_eq!(reading.unwrap_err(), DhtError::Unreachable),
            }
        }
        for error in [
            alone.dht.get("/unheard/of").await.unwrap_err(),
            alone.dht.put("/unheard/of", "x").await.unwrap_err(),
        ] {
            assert!(matches!(error, DhtError::Refused(WriteError::Refused(_))), "{error}");
        }
    })
    .await;
}

// ------------------------------------------------------------- deadlines

/// A swarm, handle and driver with a deadline that every operation exceeds at once.
async fn late() -> (Swarm<Kad>, Dht, DhtDriver) {
    let (swarm, _) =
        crate::driven::swarm(Keypair::generate_ed25519(), Registry::default(), |_| {}).await;
    let (dht, driver) = Dht::with_config(DhtConfig::default().with_timeout(Duration::ZERO));
    (swarm, dht, driver)
}

async fn run_next(driver: &mut DhtDriver, swarm: &mut Swarm<Kad>) {
    let command = driver.next().await.unwrap();
    driver.run(command, swarm.behaviour_mut());
}

fn running(kad: &Kad) -> Vec<kad::QueryId> {
    kad.iter_queries().map(|query| query.id()).collect()
}

#[tokio::test]
async fn a_read_delayed_by_a_silent_peer_returns_what_others_have_by_its_deadline() {
    let ((mut swarm, dht, mut driver), honest, board) = (late().await, start().await, board(1, 10));
    give(&honest, KEY, board.encode()).await;
    swarm.behaviour_mut().add_address(&honest.peer(), honest.address());
    let _silent = add_silent(swarm.behaviour_mut()).await;
    within(async {
        let mut get = pin!(dht.get(KEY));
        assert!((&mut get).now_or_never().is_none());
        run_next(&mut driver, &mut swarm).await;
        drive_until(&mut swarm, &mut driver, |event, _| {
            matches!(
                event,
                kad::Event::OutboundQueryProgressed {
                    result: kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(_))),
                    ..
                }
            )
        })
        .await;
        assert!((&mut get).now_or_never().is_none(), "it waits for the silent peer");
        run_next(&mut driver, &mut swarm).await;
        let reading = get.await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
        assert_eq!((reading.holders.clone(), reading.is_complete()), (vec![honest.peer()], false));
    })
    .await;
}

#[tokio::test]
async fn a_read_without_answers_ends_at_its_deadline() {
    let (mut swarm, dht, mut driver) = late().await;
    let _silent = add_silent(swarm.behaviour_mut()).await;
    within(async {
        let mut get = pin!(dht.get(KEY));
        assert!((&mut get).now_or_never().is_none());
        for _ in 0..2 {
            run_next(&mut driver, &mut swarm).await;
        }
        assert_eq!(get.await.unwrap_err(), DhtError::TimedOut);
    })
    .await;
}

#[tokio::test]
async fn a_put_that_cannot_be_sent_in_time_is_an_error_and_stored_locally() {
    let ((mut swarm, dht, mut driver), board) = (late().await, board(1, 10));
    let _silent = add_silent(swarm.behaviour_mut()).await;
    within(async {
        let mut put = pin!(dht.put(KEY, board.encode()));
        assert!((&mut put).now_or_never().is_none());
        // The put, and the ends of the times of its read and of its lookup.
        for _ in 0..3 {
            run_next(&mut driver, &mut swarm).await;
        }
        assert_eq!(put.await, Err(DhtError::TimedOut));
        assert_eq!(swarm.behaviour_mut().store_mut().record(&KEY.into()), Ok(Some(board)));
    })
    .await;
}

#[tokio::test]
async fn a_put_delayed_by_a_silent_peer_counts_the_acknowledgements_by_its_deadline() {
    let ((mut swarm, dht, mut driver), honest, board) = (late().await, start().await, board(1, 10));
    swarm.behaviour_mut().add_address(&honest.peer(), honest.address());
    let (silent, _listener) = add_silent(swarm.behaviour_mut()).await;
    within(async {
        let mut put = pin!(dht.put(KEY, board.encode()));
        assert!((&mut put).now_or_never().is_none());
        run_next(&mut driver, &mut swarm).await;
        // As if the silent peer had answered the lookups and nothing since.
        let ended = |id, result| kad::Event::OutboundQueryProgressed {
            id,
            result,
            stats: kad::QueryStats::empty(),
            step: kad::ProgressStep { count: 1.try_into().unwrap(), last: true },
        };
        let [read] = running(swarm.behaviour())[..] else { panic!("one query") };
        let (key, closest_peers) = (kad::RecordKey::new(&KEY), Vec::new());
        let nothing = kad::GetRecordError::NotFound { key, closest_peers };
        let nothing = ended(read, kad::QueryResult::GetRecord(Err(nothing)));
        driver.on_event(&nothing, swarm.behaviour_mut());
        let queries = running(swarm.behaviour());
        let id = *queries.iter().find(|id| **id != read).expect("another query");
        let info = |peer_id| kad::PeerInfo { peer_id, addrs: Vec::new() };
        let peers = vec![info(honest.peer()), info(silent)];
        let found = kad::GetClosestPeersOk { key: KEY.into(), peers };
        let found = ended(id, kad::QueryResult::GetClosestPeers(Ok(found)));
        driver.on_event(&found, swarm.behaviour_mut());
        let has_taken = |kad: &Kad| {
            kad.iter_queries().any(|query| match query.info() {
                kad::QueryInfo::PutRecord {
                    phase: kad::PutRecordPhase::PutRecord { success, .. },
                    ..
                } => *success == [honest.peer()],
                _ => false,
            })
        };
        poll_fn(|cx| {
            while swarm.poll_next_unpin(cx).is_ready() {}
            if has_taken(swarm.behaviour()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        run_next(&mut driver, &mut swarm).await;
        assert_eq!(put.await, Ok(vec![honest.peer()]));
        assert_eq!(honest.stored(&KEY.into()).await.unwrap(), Some(board));
    })
    .await;
}

// ------------------------------------------------------------- handle and driver

#[tokio::test]
async fn dropping_the_handle_or_the_driver_ends_the_other() {
    let (dht, driver) = Dht::new();
    let mut waiting = pin!(dht.get(KEY));
    assert!((&mut waiting).now_or_never().is_none());
    drop(driver);
    assert_eq!(waiting.await.unwrap_err(), DhtError::DriverStopped, "in the queue");
    assert_eq!(
        dht.put(KEY, board(1, 10).encode()).await,
        Err(DhtError::DriverStopped),
        "before it was asked"
    );

    let ((mut swarm, dht, mut driver), said) = (late().await, board(1, 10));
    let _silent = add_silent(swarm.behaviour_mut()).await;
    let mut put = Box::pin(dht.put(KEY, said.encode()));
    assert!((&mut put).now_or_never().is_none());
    run_next(&mut driver, &mut swarm).await;
    assert_eq!(running(swarm.behaviour()).len(), 1);
    drop(driver);
    assert_eq!(put.await, Err(DhtError::DriverStopped), "with its query running");

    let (dht, mut driver) = Dht::new();
    let clone = dht.clone();
    drop(dht);
    assert!(driver.next().now_or_never().is_none());
    drop(clone);
    assert!(driver.next().await.is_none());
}

#[tokio::test]
async fn case_23_a_call_in_the_task_that_polls_the_swarm_fails_and_says_so() {
    let config = DhtConfig::default().with_poll_timeout(Duration::from_millis(200));
    let (dht, _driver) = Dht::with_config(config);
    within(async {
        assert_eq!(dht.get(KEY).await.unwrap_err(), DhtError::NotPolled);
        let put = dht.put(KEY, board(1, 10).encode()).await;
        assert_eq!(put, Err(DhtError::NotPolled));
        let full = join_all((0..200).map(|_| dht.get(KEY))).await;
        assert!(full.into_iter().all(|it| it.unwrap_err() == DhtError::NotPolled));
    })
    .await;
    let keypair = Keypair::generate_ed25519();
    // With the default timeout, so that a machine that stalls for a moment does not matter.
    let config = DhtConfig::default();
    let driven = Driven::start(keypair, Registry::default(), config, |_| {}).await;
    assert!(driven.dht.get(KEY).await.unwrap().is_empty(), "alone");
}

#[tokio::test]
async fn a_put_goes_on_if_its_caller_is_gone() {
    let (writer, replica, board) = (driven().await, start().await, board(60, 600));
    writer.meet(&replica).await;
    let mut events = replica.store(|store| store.subscribe()).await.unwrap();
    within(async {
        // The command is queued.
        assert!(writer.dht.put(KEY, board.encode()).now_or_never().is_none());
        while replica.stored(&KEY.into()).await.unwrap() != Some(board.clone()) {
            events.next().await.unwrap();
        }
    })
    .await;
}
