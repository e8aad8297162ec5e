//! Delivery of a record to peers, to each at its own pace.
//!
//! **Invariants.** Pure. A peer counts if it took every chunk. A peer that did not take a chunk is
//! not sent the next. A peer is sent one chunk at a time, so a large record causes no burst. No
//! peer is sent the same record twice, except a chunk whose signatures take a replica more than one
//! turn to verify.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Writes".

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_core::{EncodedSpace, Namespace, RecordKey, Registry};
use smart_record_lookup::{Place, RequestId, Requests};

use crate::store::VALUE_WORK;

/// Maximum number of times that a chunk is sent: more than a packet full of P-256 signatures takes.
const MAX_TURNS: usize = 16;

/// What a replica verifies anew of a value in a turn. In each it decodes the keys of all
/// signatures, and hashes those that it remembers. A guess: for that a quarter of its work is
/// enough.
const NEW_WORK: Duration = Duration::from_millis(3);

/// A record being sent.
#[derive(Debug)]
pub(crate) struct Delivery {
    key: RecordKey,
    place: Place,
    peers: BTreeMap<PeerId, PeerDelivery>,
    /// Peers to be sent their next chunk.
    queue: VecDeque<PeerId>,
}

/// The delivery to one peer.
#[derive(Debug)]
struct PeerDelivery {
    chunks: Arc<[Bytes]>,
    /// Number of chunks that the peer has taken.
    taken: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    UnderWay,
    Taken,
    Failed,
}

impl Delivery {
    pub(crate) fn new(key: &RecordKey) -> Self {
        let place = Place::of_key(key.as_bytes());
        Self { key: key.clone(), place, peers: BTreeMap::new(), queue: VecDeque::new() }
    }

    /// Adds recipients. Returns those that were not recipients before.
    pub(crate) fn add_recipients(
        &mut self,
        mut peers: Vec<PeerId>,
        chunks: &Arc<[Bytes]>,
        registry: &Registry,
    ) -> Vec<PeerId> {
        let chunks = in_turns(&self.key, chunks, registry);
        peers.retain(|peer| {
            let is_new = !chunks.is_empty() && !self.peers.contains_key(peer);
            if is_new {
                let parcel =
                    PeerDelivery { chunks: chunks.clone(), taken: 0, stage: Stage::Queued };
                self.peers.insert(*peer, parcel);
                self.queue.push_back(*peer);
            }
            is_new
        });
        peers
    }

    /// Returns the next chunk that can be sent now.
    pub(crate) fn next(
        &mut self,
        requests: &mut Requests,
        now: Duration,
    ) -> Option<(RequestId, PeerId, Bytes)> {
        self.pass_over_silent(requests, now);
        // A peer without a free request slot does not delay others.
        let at = self.queue.iter().position(|peer| requests.has_room(peer))?;
        let peer = *self.queue.get(at)?;
        let parcel = self.peers.get_mut(&peer)?;
        let chunk = parcel.chunks.get(parcel.taken)?.clone();
        let id = requests.begin(peer, self.place.distance_of(&peer), now)?;
        parcel.stage = Stage::UnderWay;
        self.queue.remove(at);
        Some((id, peer, chunk))
    }

    /// Gives up silent peers that already have a request under way: one request is enough to learn
    /// whether a peer is back.
    fn pass_over_silent(&mut self, requests: &Requests, now: Duration) {
        let peers = &mut self.peers;
        self.queue.retain(|peer| {
            let is_silent = requests.is_asking(peer) && requests.history().is_silent(peer, now);
            if is_silent && let Some(parcel) = peers.get_mut(peer) {
                parcel.stage = Stage::Failed;
            }
            !is_silent
        });
    }

    /// Handles the acknowledgement of a chunk. Returns whether it was the last.
    pub(crate) fn on_taken(&mut self, peer: PeerId) -> bool {
        let Some(parcel) = self.peers.get_mut(&peer) else {
            return false;
        };
        parcel.taken = parcel.taken.saturating_add(1);
        let is_last = parcel.taken >= parcel.chunks.len();
        parcel.stage = if is_last { Stage::Taken } else { Stage::Queued };
        if !is_last {
            self.queue.push_back(peer);
        }
        is_last
    }

    /// Handles the failure of a chunk.
    pub(crate) fn on_failure(&mut self, peer: &PeerId) {
        if let Some(parcel) = self.peers.get_mut(peer) {
            parcel.stage = Stage::Failed;
        }
    }

    /// Stops sending.
    pub(crate) fn stop(&mut self) {
        self.queue.clear();
        self.peers.retain(|_, parcel| parcel.stage == Stage::Taken);
    }

    /// The peers that took every chunk, sorted by distance.
    pub(crate) fn taken(&self) -> Vec<PeerId> {
        let taken = self.peers.iter().filter(|(_, parcel)| parcel.stage == Stage::Taken);
        let mut taken: Vec<_> = taken.map(|(peer, _)| *peer).collect();
        taken.sort_by_cached_key(|peer| self.place.distance_of(peer));
        taken
    }

    /// Whether a chunk is to be sent.
    pub(crate) fn has_next(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether no chunk is to be sent or under way.
    pub(crate) fn is_over(&self) -> bool {
        self.peers.values().all(|parcel| matches!(parcel.stage, Stage::Taken | Stage::Failed))
    }
}

/// The chunks of a record in the order in which they are sent: a chunk whose signatures take more
/// work than a replica does for one value is sent again, and the replica goes on where it has
/// stopped.
pub(crate) fn in_turns(
    key: &RecordKey,
    chunks: &Arc<[Bytes]>,
    registry: &Registry,
) -> Arc<[Bytes]> {
    let turns: Vec<_> = match registry.resolve(key) {
        Ok(Namespace::Value(validator)) => {
            let work = |value: &Bytes| validator.signature_work(key, value);
            chunks.iter().map(|value| turns_of_work(work(value))).collect()
        }
        _ => chunks.iter().map(turns).collect(),
    };
    if turns.iter().all(|turns| *turns == 1) {
        return chunks.clone();
    }
    let repeated = chunks.iter().zip(turns);
    repeated.flat_map(|(chunk, turns)| std::iter::repeat_n(chunk.clone(), turns)).collect()
}

/// How many times a value is sent whose signatures take this work.
fn turns_of_work(work: Duration) -> usize {
    let is_one = work <= VALUE_WORK;
    let turns = if is_one { 1 } else { work.as_micros().div_ceil(NEW_WORK.as_micros()) };
    usize::try_from(turns).unwrap_or(MAX_TURNS).min(MAX_TURNS)
}

/// How many times a chunk of a smart record is sent. In each turn a replica decodes the keys of all
/// spaces that it does not have, and then verifies one update after the other.
fn turns(chunk: &Bytes) -> usize {
    let (mut left, mut decoding, mut rest) = (Vec::new(), Duration::ZERO, &chunk[..]);
    while let Some((space, after)) = EncodedSpace::split_first(rest) {
        decoding = decoding.saturating_add(space.decoding_work());
        left.push((space.decoding_work(), space.signature_work(), space.signed_count()));
        rest = after;
    }
    for turn in 1..MAX_TURNS {
        let mut work = decoding;
        loop {
            left.pop_if(|(.., updates)| *updates == 0);
            let Some((of_key, of_each, updates)) = left.last_mut() else {
                return turn;
            };
            // The last update, after which a replica stops, is not counted, because not all work
            // is the same on both sides.
            work = work.saturating_add(*of_each);
            if work > VALUE_WORK {
                break;
            }
            *updates = updates.saturating_sub(1);
            if *updates == 0 {
                decoding = decoding.saturating_sub(*of_key);
            }
        }
    }
    MAX_TURNS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    struct Test(Delivery, Requests);

    impl Test {
        fn new(peers: &[PeerId], chunks: &[&'static str]) -> Self {
            let mut delivery = Delivery::new(&"/sr/a".into());
            let chunks = chunks.iter().map(|chunk| Bytes::from(*chunk)).collect();
            delivery.add_recipients(peers.to_vec(), &chunks, &Registry::default());
            Self(delivery, Requests::default())
        }

        fn sent(&mut self) -> Vec<(PeerId, Bytes)> {
            let sent = std::iter::from_fn(|| {
                let (id, peer, chunk) = self.0.next(&mut self.1, NOW)?;
                self.1.on_answer(id, NOW);
                Some((peer, chunk))
            });
            sent.collect()
        }
    }

    #[test]
    fn a_peer_counts_if_it_took_every_chunk_at_its_own_pace() {
        let [quick, slow, refuses] = [(); 3].map(|()| PeerId::random());
        let (one, two) = (Bytes::from("1"), Bytes::from("2"));
        let mut test = Test::new(&[quick, slow, refuses], &["1", "2"]);
        assert_eq!(test.sent(), [quick, slow, refuses].map(|peer| (peer, one.clone())));
        assert!(!test.0.on_taken(quick));
        assert_eq!(test.sent(), [(quick, two.clone())]);
        test.0.on_failure(&refuses);
        assert!(test.0.on_taken(quick));
        assert_eq!((test.0.taken(), test.0.is_over()), (vec![quick], false));
        test.0.on_taken(slow);
        assert_eq!(test.sent(), [(slow, two)]);
        test.0.on_taken(slow);
        assert!(test.0.is_over() && test.0.taken().len() == 2);
    }

    #[test]
    fn a_chunk_that_takes_more_than_a_replica_does_for_a_value_is_sent_again() {
        use libp2p_identity::Keypair;
        use smart_record_core::{Limits, SmartRecord, SpaceSigner, Timestamp};

        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut record = SmartRecord::new("/sr/a".into());
        let mut turns_of = |keypair: Keypair| {
            let mut signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
            signer.merge([("a", 1)].into_iter().collect(), now, NOW).unwrap();
            record.join(signer.record(now)).unwrap();
            turns(&record.encode().into())
        };
        for n in 1..=40 {
            assert_eq!(turns_of(Keypair::generate_ed25519()), 1, "{n}");
        }
        for n in 1_usize..=40 {
            // 2 ms, and a third of a millisecond each.
            let turns = turns_of(Keypair::generate_ecdsa());
            assert!(turns.abs_diff((2_000 + n * 333).div_ceil(4_000)) <= 1, "{n}: {turns}");
        }
        let chunk = Bytes::from(record.encode());
        let chunks = Arc::from([Bytes::from("1"), chunk.clone()]);
        let sent = in_turns(&"/sr/a".into(), &chunks, &Registry::default());
        assert_eq!((sent.len(), &sent[0]), (1 + turns(&chunk), &chunks[0]));
        assert!(sent[1..].iter().all(|sent| *sent == chunk));
    }

    /// As many small updates of these writers as fit into a chunk.
    fn densest(keypairs: Vec<libp2p_identity::Keypair>, updates: usize) -> Bytes {
        use crate::{Clock, SystemClock};
        use smart_record_core::{Limits, SmartRecord, SpaceSigner};

        let hour = Duration::from_secs(3_600);
        let mut record = SmartRecord::new("/sr/a".into());
        for keypair in keypairs {
            let mut signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
            for n in 0..updates {
                let document = [(format!("{n:x}"), 1)].into_iter().collect();
                signer.merge(document, SystemClock.now(), hour).unwrap();
            }
            record.join(signer.record(SystemClock.now())).unwrap();
        }
        record.chunks(15 * 1_024).map(Bytes::from).next().unwrap()
    }

    #[test]
    fn the_densest_chunks_are_taken_in_the_turns_in_which_they_are_sent() {
        use crate::store::SmartRecordStore;
        use libp2p_identity::Keypair;
        use libp2p_kad::{Record, RecordKey as KadKey, store::RecordStore};

        let of = |generate: fn() -> Keypair, count: usize| -> Vec<_> {
            std::iter::repeat_with(generate).take(count).collect()
        };
        for (name, chunk) in [
            ("many Ed25519", densest(of(Keypair::generate_ed25519, 130), 1)),
            ("few Ed25519", densest(of(Keypair::generate_ed25519, 3), 60)),
            ("many secp256k1", densest(of(Keypair::generate_secp256k1, 130), 1)),
            ("few secp256k1", densest(of(Keypair::generate_secp256k1, 3), 60)),
            ("many P-256", densest(of(Keypair::generate_ecdsa, 100), 1)),
            ("some P-256", densest(of(Keypair::generate_ecdsa, 30), 3)),
            ("few P-256", densest(of(Keypair::generate_ecdsa, 3), 60)),
        ] {
            assert!(chunk.len() > 7_000, "{name}: {}", chunk.len());
            let all: usize = EncodedSpace::all(&chunk).map(EncodedSpace::update_count).sum();
            let mut store = SmartRecordStore::new(PeerId::random());
            let sent = in_turns(&"/sr/a".into(), &Arc::from([chunk]), store.registry());
            for value in &*sent {
                store.put(Record::new(KadKey::new(b"/sr/a"), value.to_vec())).unwrap();
            }
            let stored = store.counters().admitted;
            assert_eq!(stored, all as u64, "{name}, in {} turns", sent.len());
        }
    }

    #[cfg(feature = "presence")]
    #[test]
    fn presence_of_many_nodes_with_dear_keys_is_taken_in_the_turns_in_which_it_is_sent() {
        use crate::presence::{
            Announcer, ExchangeKey, PresenceKey, PresenceLimits, PresenceValidator,
        };
        use crate::{Clock, SystemClock, store::SmartRecordStore};
        use libp2p_identity::Keypair;
        use libp2p_kad::{Record, RecordKey as KadKey, store::RecordStore};
        use smart_record_core::Validator;

        let (client, now, limits) =
            (Keypair::generate_ecdsa(), SystemClock.now(), PresenceLimits::default());
        let key = PresenceKey::of(client.public().to_peer_id());
        let mut announcer = Announcer::new(key.clone(), client, limits.clone()).unwrap();
        for _ in 0..40 {
            let node = Keypair::generate_ecdsa();
            let keys = [[1; 32], [2; 32]].map(|it| ExchangeKey::try_from(it).unwrap());
            let hour = Duration::from_secs(3_600);
            let signed = announcer.announce(&node.public(), keys[0], keys[1], now, hour).unwrap();
            let signed = signed.countersign(&node, keys[0], now, &limits).unwrap();
            announcer.accept(signed).unwrap();
        }
        let record = announcer.record(now);
        let (key, value) = (key.as_record_key(), Bytes::from(record.encode()));
        let rules = PresenceValidator::default();
        assert!(
            rules.signature_work(key, &value) > VALUE_WORK,
            "{} entries",
            record.entries().len()
        );
        let registry = Registry::default().with(PresenceKey::NAMESPACE, rules).unwrap();
        let sent = in_turns(key, &[value.clone()].into(), &registry);
        let local = PeerId::random();
        let mut store = SmartRecordStore::with_registry(local, registry, Default::default());
        let kad_key = KadKey::new(&key.as_bytes());
        let mut turns = 0;
        while store.get(&kad_key).is_none() {
            assert!(turns < sent.len(), "not taken in {turns} turns");
            store.put(Record::new(kad_key.clone(), sent[turns].to_vec())).unwrap();
            turns += 1;
        }
        println!(
            "{} entries: taken in {turns} turns, sent {} times",
            record.entries().len(),
            sent.len()
        );
        assert!(turns > 1 && sent.len() <= turns + 1);
        assert_eq!(store.get(&kad_key).unwrap().value, value);
        // One signature is verified in any case, so such a value is sent once.
        assert_eq!((turns_of_work(Duration::ZERO), turns_of_work(VALUE_WORK)), (1, 1));
        assert_eq!(turns_of_work(Duration::from_secs(9)), MAX_TURNS);
    }

    #[test]
    fn no_peer_is_sent_a_record_twice() {
        let peer = PeerId::random();
        let mut test = Test::new(&[peer, peer], &["1"]);
        assert_eq!(test.sent().len(), 1);
        let chunks = [Bytes::from("2")].into();
        assert_eq!(test.0.add_recipients(vec![peer], &chunks, &Registry::default()), []);
        assert_eq!(test.sent(), []);
    }

    #[test]
    fn after_a_stop_nothing_is_sent_or_awaited() {
        let [took, queued] = [(); 2].map(|()| PeerId::random());
        let mut test = Test::new(&[took], &["1"]);
        test.sent();
        test.0.on_taken(took);
        test.0.add_recipients(vec![queued], &[Bytes::from("1")].into(), &Registry::default());
        test.0.stop();
        assert!(test.0.is_over());
        assert_eq!((test.sent(), test.0.taken()), (vec![], vec![took]));
    }

    #[test]
    fn a_delivery_without_peers_or_chunks_is_over() {
        assert!(Test::new(&[], &["1"]).0.is_over());
        assert!(Test::new(&[PeerId::random()], &[]).0.is_over());
    }
}
