//! Dishonest replicas do not change results.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{
        self, ProviderRecord,
        store::{self, RecordStore},
    },
};
use libp2p_smart_record::{
    Clock, Coverage, Fault, Limits, RecordKey, RingArc, SmartRecord, SpaceSigner, SystemClock,
    behaviour::{BehaviourConfig, Event, Validation},
    client::ClientError,
    query::ReadPolicy,
};

use crate::peer::{MINUTE, Peer, Setup, key, mesh, quiet, says, texts};
use smart_record_testing_swarms::Node;

use crate::nodes::{PROTOCOL, within};

/// A store that answers every GET with the same record or none, and lists the records it was sent.
struct Liar {
    answer: Option<kad::Record>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RecordStore for Liar {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, kad::Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        self.answer.as_ref().map(Cow::Borrowed)
    }
    fn put(&mut self, record: kad::Record) -> store::Result<()> {
        self.sent.lock().unwrap().push(record.value);
        Ok(())
    }
    fn remove(&mut self, _: &kad::RecordKey) {}
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }
    fn add_provider(&mut self, _: ProviderRecord) -> store::Result<()> {
        Ok(())
    }
    fn providers(&self, _: &kad::RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }
    fn remove_provider(&mut self, _: &kad::RecordKey, _: &PeerId) {}
}

struct Lying {
    node: Node<Liar>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

async fn liar(answer: Option<kad::Record>) -> Lying {
    let sent = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let store = Liar { answer, sent: sent.clone() };
    let config = kad::Config::new(PROTOCOL);
    let node = Node::start(Keypair::generate_ed25519(), store, config).await;
    Lying { node, sent }
}

fn record(key: &RecordKey, value: Vec<u8>) -> kad::Record {
    kad::Record::new(kad::RecordKey::new(key), value)
}

/// The answer of a holder that says that this is all that it has.
fn all(record: &SmartRecord) -> Vec<u8> {
    let spaces = u32::try_from(record.spaces().len()).unwrap();
    let mut answer = record.encode();
    let digest = record.digest(SystemClock.now());
    Coverage::new([RingArc::RING], spaces, digest).append_to(&mut answer);
    answer
}

fn signed_ago(key: &RecordKey, keypair: &Keypair, text: &str, ago: Duration) -> SmartRecord {
    let mut signer = SpaceSigner::new(key.clone(), keypair.clone(), Limits::default());
    let at = SystemClock.now().saturating_sub(ago);
    signer.replace(says(text), at, 10 * MINUTE).unwrap();
    signer.record(at)
}

fn signed(key: &RecordKey, keypair: &Keypair, text: &str) -> SmartRecord {
    signed_ago(key, keypair, text, Duration::ZERO)
}

/// A reader with two neighbours: an honest holder of `author`'s space, and a dishonest replica.
async fn read_beside(
    author: &Keypair,
    answer: Option<kad::Record>,
) -> (libp2p_smart_record::query::Reading, Lying) {
    read_beside_with(quiet(), author, answer).await
}

async fn read_beside_with(
    config: BehaviourConfig,
    author: &Keypair,
    answer: Option<kad::Record>,
) -> (libp2p_smart_record::query::Reading, Lying) {
    let (honest, reader) = (Peer::start().await, Setup::with_config(config).start().await);
    let liar = liar(answer).await;
    mesh(&[&honest, &reader]).await;
    reader.add(liar.node.peer(), liar.node.address()).await;
    honest.store(&signed(&key(), author, "truth")).await;
    let reading = within(reader.client.get(key())).await.unwrap();
    assert_eq!(texts(&reading.view()), ["truth"]);
    assert_eq!(reading.snapshot.record(), honest.stored(&key()).await.as_ref());
    let bad_answers = reader.smart(|smart| smart.counters().bad_answers).await;
    assert_eq!(bad_answers, reading.refused.len() as u64);
    (reading, liar)
}

#[tokio::test]
async fn an_answer_about_another_key_changes_nothing() {
    let author = Keypair::generate_ed25519();
    let elsewhere = RecordKey::new("/sr/behaviour/elsewhere");
    let answer = record(&elsewhere, signed(&elsewhere, &author, "elsewhere").encode());
    let (reading, liar) = read_beside(&author, Some(answer)).await;
    assert!(matches!(&reading.refused[..], [(peer, error)]
        if *peer == liar.node.peer() && error.fault() == Fault::Malformed));

    // The same update under the requested key is refused, because it is signed for the other key.
    let answer = record(&key(), signed(&elsewhere, &author, "elsewhere").encode());
    let (reading, _liar) = read_beside(&author, Some(answer)).await;
    assert_eq!(reading.refused[0].1.fault(), Fault::Invalid);
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let answer = record(&key(), b"garbage".to_vec());
    let (reading, liar) = read_beside(&Keypair::generate_ed25519(), Some(answer)).await;
    assert!(matches!(&reading.refused[..], [(peer, error)]
        if *peer == liar.node.peer() && error.fault() == Fault::Malformed));
}

#[tokio::test]
async fn old_data_changes_nothing_and_is_reported_as_stale() {
    let author = Keypair::generate_ed25519();
    let old = signed_ago(&key(), &author, "old", MINUTE);
    let (reading, liar) = read_beside(&author, Some(record(&key(), old.encode()))).await;
    assert_eq!(reading.stale, [liar.node.peer()]);
}

#[tokio::test]
async fn invalid_answers_change_nothing_when_checked_off_the_task() {
    let author = Keypair::generate_ed25519();
    let config = quiet().with_validation(Validation::OffTask);
    let old = signed_ago(&key(), &author, "old", MINUTE).encode();
    let forged = signed(&"/sr/behaviour/elsewhere".into(), &author, "elsewhere").encode();
    let fault = |reading: &libp2p_smart_record::query::Reading| reading.refused[0].1.fault();
    for (answer, expected) in
        [(b"garbage".to_vec(), Some(Fault::Malformed)), (forged, Some(Fault::Invalid)), (old, None)]
    {
        let answer = Some(record(&key(), answer));
        let (reading, liar) = read_beside_with(config.clone(), &author, answer).await;
        match expected {
            Some(expected) => assert_eq!(fault(&reading), expected),
            None => assert_eq!(reading.stale, [liar.node.peer()]),
        }
    }
}

#[tokio::test]
async fn no_data_changes_nothing_and_is_reported_as_empty() {
    let (reading, liar) = read_beside(&Keypair::generate_ed25519(), None).await;
    assert_eq!(reading.empty, [liar.node.peer()]);
    assert_eq!(reading.stale, []);
}

#[tokio::test]
async fn a_majority_of_dishonest_replicas_of_all_kinds_changes_nothing() {
    let author = Keypair::generate_ed25519();
    let elsewhere = RecordKey::new("/sr/behaviour/elsewhere");
    let old = record(&key(), signed_ago(&key(), &author, "old", MINUTE).encode());
    let other = signed(&elsewhere, &author, "elsewhere").encode();
    let kinds = [
        Some(old),
        None,
        Some(record(&key(), b"garbage".to_vec())),
        Some(record(&elsewhere, other.clone())),
        Some(record(&key(), other)),
    ];
    let (honest, reader) = (Peer::start().await, Peer::start().await);
    let mut liars = Vec::new();
    for answer in kinds.iter().cycle().take(2 * kinds.len()) {
        let liar = liar(answer.clone()).await;
        reader.add(liar.node.peer(), liar.node.address()).await;
        liars.push(liar);
    }
    mesh(&[&honest, &reader]).await;
    within(async {
        let truth = signed(&key(), &author, "truth");
        honest.store(&truth).await;
        // First without earlier knowledge, then after an earlier read.
        for _ in 0..2 {
            let reading = reader.client.get(key()).await.unwrap();
            assert_eq!(texts(&reading.view()), ["truth"]);
            assert_eq!(reading.snapshot.record(), Some(&truth));
            assert_eq!(
                (reading.holders.len(), reading.stale.len(), reading.empty.len()),
                (3, 2, 2),
                "the honest holder and those with old data"
            );
            assert_eq!(reading.refused.len(), 6);
            assert_eq!(reading.withheld, [], "a holder has shown it");
        }
        for peer in [&honest, &reader] {
            assert_eq!(
                peer.stored(&key()).await.as_ref(),
                Some(&truth),
                "the stored record is unchanged"
            );
            assert_eq!(peer.stored(&elsewhere).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn withheld_updates_are_reported() {
    let author = Keypair::generate_ed25519();
    let old = signed_ago(&key(), &author, "old", MINUTE);
    let new = signed(&key(), &author, "new");
    let mut reader = Peer::start().await;
    // A client, which does not store what it reads.
    reader.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    within(async {
        let honest = Peer::start().await;
        honest.store(&new).await;
        reader.add(honest.id, honest.address.clone()).await;
        assert_eq!(texts(&reader.client.view(key()).await.unwrap()), ["new"]);
        let gone = honest.id;
        drop(honest);
        reader.smart(move |smart| smart.kad_mut().remove_peer(&gone)).await;

        let seq = |record: &SmartRecord| record.spaces().next().unwrap().1.newest().unwrap().seq;
        for (answer, found) in [(Some(&old), Some(seq(&old))), (None, None)] {
            let answer = answer.map(|old| record(&key(), all(old)));
            let liar = liar(answer).await;
            reader.add(liar.node.peer(), liar.node.address()).await;
            let reading = reader.client.get(key()).await.unwrap();
            let [withheld] = &reading.withheld[..] else { panic!("{:?}", reading.withheld) };
            assert_eq!(withheld.writer, author.public().to_peer_id());
            assert_eq!((withheld.known, withheld.found), (seq(&new), found));
            let told = reader.until(|event| match event {
                Event::Withheld { writers, .. } => Some(writers.clone()),
                _ => None,
            });
            assert_eq!(told.await, reading.withheld);
            let peer = liar.node.peer();
            reader.smart(move |smart| smart.kad_mut().remove_peer(&peer)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_written_during_a_read_is_not_missed_by_it() {
    let reader = Peer::start().await;
    reader.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    within(async {
        let replica = liar(None).await;
        reader.add(replica.node.peer(), replica.node.address()).await;
        reader.client.publish(key(), says("old"), MINUTE).await.unwrap();
        let old = reader.stored(&key()).await.unwrap();
        let gone = replica.node.peer();
        drop(replica);
        reader.smart(move |smart| smart.kad_mut().remove_peer(&gone)).await;

        // A holder that has answered before the next write arrives.
        let behind = liar(Some(record(&key(), all(&old)))).await;
        reader.add(behind.node.peer(), behind.node.address()).await;
        let write = reader.client.publish(key(), says("new"), MINUTE);
        let (reading, written) = tokio::join!(reader.client.get(key()), write);
        written.unwrap();
        let reading = reading.unwrap();
        assert!(reading.is_complete());
        assert_eq!(texts(&reading.view()), ["old"]);
        assert_eq!(reading.withheld, []);
        let later = reader.client.get(key()).await.unwrap();
        assert_eq!(texts(&later.view()), ["new"], "of its own store");
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_claims_more_than_it_shows_is_counted_and_not_waited_for() {
    let truth = signed(&key(), &Keypair::generate_ed25519(), "truth");
    let mut claim = truth.encode();
    Coverage::new([], 1_024, [0xff; 32]).append_to(&mut claim);
    let (honest, reader) = (Peer::start().await, Peer::start().await);
    let liar = liar(Some(record(&key(), claim))).await;
    mesh(&[&honest, &reader]).await;
    reader.add(liar.node.peer(), liar.node.address()).await;
    within(async {
        honest.store(&truth).await;
        let reading = reader.client.get_with(key(), ReadPolicy::All).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&truth));
        let counters = reader.smart(|smart| smart.counters()).await;
        assert_eq!((counters.overclaimed, counters.reads), (1, 1));
        // The first answer, and one more round.
        assert_eq!(counters.lookups, 2);
    })
    .await;
}

#[tokio::test]
async fn an_incomplete_read_reports_no_withholding() {
    let [one, other] = [(); 2].map(|()| signed(&key(), &Keypair::generate_ed25519(), "x"));
    let mut both = one.clone();
    both.join(other).unwrap();
    let reader = Peer::start().await;
    reader.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    within(async {
        let whole = liar(Some(record(&key(), both.encode()))).await;
        reader.add(whole.node.peer(), whole.node.address()).await;
        assert_eq!(reader.client.view(key()).await.unwrap().len(), 2);
        let gone = whole.node.peer();
        drop(whole);
        while reader.with(move |swarm| swarm.is_connected(&gone)).await {
            tokio::task::yield_now().await;
        }
        reader.smart(move |smart| smart.kad_mut().remove_peer(&gone)).await;

        // No peer to ask.
        assert_eq!(reader.client.get(key()).await.unwrap().withheld, []);
        // A peer that does not say what it covers.
        let silent = liar(Some(record(&key(), one.encode()))).await;
        reader.add(silent.node.peer(), silent.node.address()).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!((reading.withheld.len(), reading.missing()), (0, 1.0));
        assert!(!reading.is_complete() && reading.view().len() == 1);
        let peer = silent.node.peer();
        drop(silent);
        while reader.with(move |swarm| swarm.is_connected(&peer)).await {
            tokio::task::yield_now().await;
        }
        reader.smart(move |smart| smart.kad_mut().remove_peer(&peer)).await;
        // The only peer asked does not have the other writer's space; others may.
        let part = liar(Some(record(&key(), all(&one)))).await;
        reader.add(part.node.peer(), part.node.address()).await;
        let early = reader.client.get_with(key(), ReadPolicy::Replies(1)).await.unwrap();
        assert_eq!(early.withheld, []);
        let whole = reader.client.get(key()).await.unwrap();
        assert_eq!(whole.withheld.len(), 1, "no peers left");
        assert_eq!(reader.smart(|smart| smart.counters().withheld).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_takes_no_repair_is_not_repaired_with_every_read() {
    let truth = signed(&key(), &Keypair::generate_ed25519(), "truth");
    let reader = Peer::start().await;
    reader.store(&truth).await;
    let liar = liar(None).await;
    reader.add(liar.node.peer(), liar.node.address()).await;
    within(async {
        for _ in 0..5 {
            let reading = reader.client.get(key()).await.unwrap();
            assert_eq!(reading.empty, [liar.node.peer()]);
        }
        let sent = async || reader.smart(|smart| smart.counters().repairs).await;
        while sent().await == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(liar.sent.lock().unwrap().len(), 1);
        assert_eq!(reader.smart(|smart| smart.counters().repairs_postponed).await, 4);
    })
    .await;
}

#[tokio::test]
async fn a_read_ends_with_its_policy() {
    let author = Keypair::generate_ed25519();
    let reader = Setup::with_config(quiet()).start().await;
    let mut holders = Vec::new();
    let truth = signed(&key(), &author, "truth");
    for _ in 0..8 {
        let holder = liar(Some(record(&key(), truth.encode()))).await;
        reader.add(holder.node.peer(), holder.node.address()).await;
        holders.push(holder);
    }
    within(async {
        let count = async |policy| {
            let reading = reader.client.get_with(key(), policy).await.unwrap();
            assert_eq!(texts(&reading.view()), ["truth"]);
            reading.holders.len()
        };
        // Three requests run at a time, so two more may have been answered meanwhile.
        assert!((2..=4).contains(&count(ReadPolicy::Replies(2)).await));
        assert!((3..=6).contains(&count(ReadPolicy::WithoutNews(3)).await));
        assert_eq!(count(ReadPolicy::All).await, 8);
    })
    .await;
}

#[tokio::test]
async fn invalid_answers_do_not_count_as_replies() {
    let author = Keypair::generate_ed25519();
    let reader = Peer::start().await;
    let mut liars = Vec::new();
    for _ in 0..6 {
        let liar = liar(Some(record(&key(), b"garbage".to_vec()))).await;
        reader.add(liar.node.peer(), liar.node.address()).await;
        liars.push(liar);
    }
    let honest = liar(Some(record(&key(), signed(&key(), &author, "truth").encode()))).await;
    reader.add(honest.node.peer(), honest.node.address()).await;
    within(async {
        let reading = reader.client.get_with(key(), ReadPolicy::Replies(1)).await.unwrap();
        assert_eq!(texts(&reading.view()), ["truth"]);
        assert_eq!(reading.holders, [honest.node.peer()]);
        // No repairs follow from these answers.
        assert!(liars.iter().all(|liar| liar.sent.lock().unwrap().is_empty()));
    })
    .await;
}

/// What `author` says in ten minutes.
fn signed_ahead(key: &RecordKey, author: &Keypair) -> Vec<u8> {
    let mut signer = SpaceSigner::new(key.clone(), author.clone(), Limits::default());
    let at = SystemClock.now().saturating_add(10 * MINUTE);
    signer.replace(says("soon"), at, 10 * MINUTE).unwrap();
    signer.record(at).encode()
}

#[tokio::test]
async fn case_15_a_read_of_which_all_answers_are_refused_is_an_error_with_the_reasons() {
    let author = Keypair::generate_ed25519();
    let garbage = Keypair::generate_ed25519().public().encode_protobuf();
    for (value, is_clock, told) in [
        (signed_ahead(&key(), &author), true, " s ahead of this clock"),
        (garbage, false, "1 answer was refused: malformed"),
    ] {
        let (reader, liar) = (Peer::start().await, liar(Some(record(&key(), value))).await);
        reader.add(liar.node.peer(), liar.node.address()).await;
        within(async {
            let error = reader.client.get(key()).await.unwrap_err();
            let ClientError::AnswersRefused(refused) = &error else { panic!("{error}") };
            assert_eq!(refused.is_ahead_of_clock(), is_clock);
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(error.fault(), refused.fault());
            assert_eq!(
                refused.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(),
                [liar.node.peer()]
            );
            assert!(reader.client.view(key()).await.is_err());
            let mut readings = reader.client.read(key(), ReadPolicy::All).await.unwrap();
            let mut last = None;
            while let Some(reading) = readings.next().await {
                last = Some(reading);
            }
            assert_eq!(last.unwrap().refusal().unwrap().fault(), refused.fault());
            // A writer is not held up by liars.
            reader.client.publish(key(), says("here"), MINUTE).await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn case_15_a_watch_does_not_take_refused_answers_for_absence() {
    let author = Keypair::generate_ed25519();
    let answer = record(&key(), signed_ahead(&key(), &author));
    let (reader, liar) = (Peer::start().await, liar(Some(answer)).await);
    reader.add(liar.node.peer(), liar.node.address()).await;
    within(async {
        let mut watch = reader.client.watch(key()).await.unwrap();
        reader.client.get(key()).await.unwrap_err();
        let honest = Peer::start().await;
        honest.store(&signed(&key(), &author, "truth")).await;
        mesh(&[&reader, &honest]).await;
        reader.client.get(key()).await.unwrap();
        assert_eq!(
            texts(&watch.next().await.unwrap().view()),
            ["truth"],
            "it showed nothing before"
        );
    })
    .await;
}

#[tokio::test]
async fn more_peers_without_a_record_than_liars_say_that_there_is_nothing() {
    let (reader, b, c) = (Peer::start().await, Peer::start().await, Peer::start().await);
    let liar = liar(Some(record(&key(), b"garbage".to_vec()))).await;
    mesh(&[&reader, &b, &c]).await;
    reader.add(liar.node.peer(), liar.node.address()).await;
    within(async {
        let reading = reader.client.get_with(key(), ReadPolicy::All).await.unwrap();
        assert!(reading.is_empty() && reading.is_complete());
        assert_eq!((reading.refusal(), reading.refusals().unwrap().iter().len()), (None, 1));
    })
    .await;
}
