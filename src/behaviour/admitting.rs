//! Local storage of records from other peers: inbound records, and records found by reads.
//!
//! **Invariants.** Both kinds of inbound writes are handled, records and provider records, and both
//! are charged to their source's [budget](super::budget). Every refusal is counted. If there is an
//! [`AsyncValidator`](super::AsyncValidator), no record of another peer is stored without its
//! consent, whether inbound or read.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, InboundRequest, store::RecordStore};

use super::{
    budget::{Source, receiving},
    env::Env,
    event::Event,
    inbound::InboundRefusal,
    worker::{CheckedRecord, InboundRecord, Worker},
};
use crate::{
    clock::wall_clock,
    query::{JoinedAnswers, RecordLookup, chunks},
    store::{Asker, PACKET_BYTES, Pieces, ValidatedRecord},
};
use smart_record_core::{EncodedSpace, Namespace, RecordKey, Registry, SmartRecord, Timestamp};

/// Number of spaces stored at a time: takes well below a millisecond.
const PIECE: usize = 32;
/// Maximum number of waiting pieces: 32 boards of as many spaces as a record may have.
const MAX_PIECES: usize = 1_024;
/// Maximum size of all waiting pieces: 32 boards of maximum size.
const MAX_BYTES: usize = 128 * 1_024 * 1_024;

/// Work of storing a provider record. A guess, on the high side.
const PROVIDER: Duration = Duration::from_micros(20);
/// Estimate of the work of validating a value that is no smart record, before it is read: one
/// signature of the dearest common type, and one with Ed25519 for each 150 bytes.
const VALUE: Duration = Duration::from_micros(330);
const VALUE_BYTE: Duration = Duration::from_nanos(330);
/// Verifying the dearest signature: one with RSA of 8,192 bits. A guess, on the high side.
const SIGNATURE: Duration = Duration::from_micros(600);

/// Records of other peers that are to be stored.
pub(super) struct Admission {
    /// `None`: the store validates inbound records on the task.
    worker: Option<Worker>,
    last_refusal: Option<(PeerId, InboundRefusal)>,
    /// Validated records that are to be stored, in pieces.
    unstored: VecDeque<Unstored>,
    /// Number of the pieces.
    pieces: usize,
    /// How many bytes they hold.
    unstored_bytes: usize,
}

/// A validated record of which pieces are to be stored.
struct Unstored {
    pieces: Pieces,
    /// Who has sent it; `None` for what this node has read.
    source: Option<Source>,
}

type Admitted = Result<(), InboundRefusal>;

impl Admission {
    pub(super) const fn new(worker: Option<Worker>) -> Self {
        let unstored = VecDeque::new();
        Self { worker, last_refusal: None, unstored, pieces: 0, unstored_bytes: 0 }
    }

    /// The worker that validates answers to reads, if any.
    pub(super) const fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// Takes the record out of an inbound request. The rest of the request is emitted to the user.
    pub(super) fn on_request(&mut self, env: &mut Env, request: &mut InboundRequest) {
        let (peer, admitted) = match request {
            InboundRequest::PutRecord { source, connection, record } => {
                let Some(record) = record.take() else { return };
                let of = env.remotes.source(*source, *connection);
                let asker = env.remotes.asker(*source, *connection);
                (*source, self.admit_record(env, of, *source, asker, record))
            }
            InboundRequest::AddProvider { record } => {
                let Some(record) = record.take() else { return };
                // Kademlia has checked that the provider is the sender.
                let peer = record.provider;
                let of = env.remotes.source_of_last(peer);
                (peer, admit_provider(env, &of, record))
            }
            _ => return,
        };
        self.note(env, peer, admitted);
    }

    fn admit_record(
        &mut self,
        env: &mut Env,
        source: Source,
        peer: PeerId,
        asker: Asker,
        record: kad::Record,
    ) -> Admitted {
        let (now, net_now) = (env.now(), env.net.now());
        let key = RecordKey::new(record.key.to_vec());
        env.budget.charge(&source, receiving(record.value.len()), net_now);
        if record.value.len() > env.bounds.chunk_bytes.max(PACKET_BYTES) {
            return Err(InboundRefusal::TooLarge);
        }
        if env.kad.store_mut().is_behind() {
            return Err(InboundRefusal::StorageLags);
        }
        let is_crowded = self.worker.as_ref().is_some_and(|worker| worker.records.is_crowded());
        if env.budget.refuses(&source, is_crowded, net_now) {
            return Err(InboundRefusal::OverBudget);
        }
        let mut work = estimate(&env.registry, &key, &record.value);
        if self.worker.is_none() {
            // The signature that exceeds the limit is completed.
            let most = env.kad.store_mut().config().value_work().saturating_add(SIGNATURE);
            work = work.min(most);
        }
        let reserved = env.budget.take_for(&source, work);
        let Some(worker) = &mut self.worker else {
            let store = env.kad.store_mut();
            store.asked_by(Some(asker));
            if let Err(error) = store.put(record) {
                tracing::debug!(?error, "a record was not stored");
            }
            store.asked_by(None);
            let done = store.take_served();
            env.settle(reserved, done);
            return Ok(());
        };
        let job = InboundRecord {
            source: peer,
            key,
            value: record.value,
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
            asker: Some(asker),
            reserved: Some(reserved),
        };
        tracing::trace!(source = %peer, key = %job.key, bytes = job.value.len(), "inbound record");
        worker.records.give(job).map_err(|(_, reason)| {
            env.settle(reserved, Duration::ZERO);
            reason
        })
    }

    /// Counts a refusal, and emits an event once per run of refusals with the same reason.
    pub(super) fn note(&mut self, env: &mut Env, source: PeerId, admitted: Admitted) {
        let Err(reason) = admitted else {
            self.last_refusal.take_if(|(last, _)| *last == source);
            return;
        };
        env.count(|c| c.inbound_refused.entry(reason).or_default(), 1);
        tracing::debug!(%source, reason = reason.as_str(), "an inbound record was refused");
        if self.last_refusal.replace((source, reason)) != Some((source, reason)) {
            env.events.push_back(Event::InboundRefused { source, reason });
        }
    }

    /// Stores a record that was validated off the task.
    pub(super) fn on_checked(&mut self, env: &mut Env, checked: CheckedRecord) {
        let CheckedRecord { record, reserved, work } = checked;
        if let Some(reserved) = reserved {
            env.settle(reserved, work);
        }
        self.store_in_pieces(env, record, reserved.map(|reserved| reserved.source()));
    }

    /// The worker, if an async validator decides about records of other peers.
    fn asks(&mut self) -> Option<&mut Worker> {
        self.worker().filter(|worker| worker.asks)
    }

    /// Stores a found record locally if the store already holds some of it, or this node is a
    /// server among the closest to the key. Returns whether it does.
    pub(super) fn store_found(
        &mut self,
        env: &mut Env,
        lookup: &RecordLookup,
        is_close: bool,
    ) -> bool {
        let now = env.now();
        let key = lookup.key();
        let is_ours = is_close && env.kad.mode() == kad::Mode::Server;
        match lookup.joined() {
            JoinedAnswers::Record(..) if lookup.has_here() || is_ours => {
                if let Some(news) = lookup.news() {
                    self.store_record(env, lookup, news);
                }
                true
            }
            JoinedAnswers::Value(_, Some(value)) => {
                let here = env.kad.store_mut().value(key).ok().flatten().map(|here| here.value);
                let is_wanted = here.is_some() || is_ours;
                if is_wanted && here.as_ref() != Some(value) && !lookup.has_passed_on(value) {
                    self.store_value(env, lookup, value, now);
                }
                is_wanted
            }
            _ => false,
        }
    }

    fn store_record(&mut self, env: &mut Env, lookup: &RecordLookup, news: SmartRecord) {
        let Some(worker) = self.asks() else {
            let record = ValidatedRecord::verified(news).brought_by(None);
            return self.store_in_pieces(env, record, None);
        };
        let mut by_source: BTreeMap<PeerId, SmartRecord> = BTreeMap::new();
        for (writer, space) in news.spaces() {
            // The validator has already decided about what came from no answer of this read.
            if let Some(source) = lookup.source_of(writer) {
                let part = by_source.entry(source);
                let part = part.or_insert_with(|| SmartRecord::new(news.key().clone()));
                part.join_space(writer.clone(), space.clone());
            }
        }
        for (source, part) in by_source {
            for chunk in chunks(&part, env.bounds.chunk_bytes) {
                ask_about(worker, source, lookup.key(), &chunk, None);
            }
        }
    }

    fn store_value(&mut self, env: &mut Env, lookup: &RecordLookup, value: &[u8], now: Timestamp) {
        let (key, expires_at) = (lookup.key(), lookup.expires_at());
        let Some(worker) = self.asks() else {
            let checked = ValidatedRecord::new(&env.registry, key.clone(), value, now);
            return env.insert(checked.with_origin(None, expires_at).brought_by(None), None);
        };
        if let Some(source) = lookup.source() {
            ask_about(worker, source, key, value, expires_at);
        }
    }

    /// Stores a small record at once, and a large one piece by piece so that other tasks can run in
    /// between.
    fn store_in_pieces(&mut self, env: &mut Env, record: ValidatedRecord, source: Option<Source>) {
        let bytes = record.bytes();
        let pieces = record.split(PIECE);
        if pieces.len() == 1 {
            return pieces.for_each(|record| env.insert(record, source.as_ref()));
        }
        self.pieces = self.pieces.saturating_add(pieces.len());
        self.unstored_bytes = self.unstored_bytes.saturating_add(bytes);
        self.unstored.push_back(Unstored { pieces, source });
        let is_full = |all: &Self| all.pieces > MAX_PIECES || all.unstored_bytes > MAX_BYTES;
        while is_full(self) && self.next_piece().is_some() {
            // It will be read or sent again.
            env.count(|c| &mut c.pieces_dropped, 1);
        }
    }

    fn next_piece(&mut self) -> Option<(ValidatedRecord, Option<Source>)> {
        loop {
            let Unstored { pieces, source } = self.unstored.front_mut()?;
            if let Some(piece) = pieces.next() {
                self.pieces = self.pieces.saturating_sub(1);
                self.unstored_bytes = self.unstored_bytes.saturating_sub(piece.bytes());
                return Some((piece, *source));
            }
            self.unstored.pop_front();
        }
    }

    /// Whether all validated records are stored.
    pub(super) fn has_stored_all(&self) -> bool {
        self.pieces == 0
    }

    /// Stores the next piece of a validated record. Returns whether there was one.
    pub(super) fn store_next_piece(&mut self, env: &mut Env) -> bool {
        let piece = self.next_piece();
        let has_one = piece.is_some();
        piece.into_iter().for_each(|(record, source)| env.insert(record, source.as_ref()));
        has_one
    }
}

fn admit_provider(env: &mut Env, source: &Source, record: kad::ProviderRecord) -> Admitted {
    let Some(reserved) = env.budget.reserve(source, PROVIDER, false, env.net.now()) else {
        return Err(InboundRefusal::OverBudget);
    };
    if let Err(error) = env.kad.store_mut().add_provider(record) {
        tracing::debug!(?error, "a provider record was not stored");
    }
    env.settle(reserved, PROVIDER);
    Ok(())
}

/// An upper bound of the work of validating a smart record, or a guess for another value.
fn estimate(registry: &Registry, key: &RecordKey, value: &[u8]) -> Duration {
    match registry.resolve(key) {
        // Refused unread.
        Err(_) => Duration::ZERO,
        Ok(Namespace::Value(_)) => {
            let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
            VALUE.saturating_add(VALUE_BYTE.saturating_mul(bytes))
        }
        Ok(Namespace::Spaces(rules)) => {
            let max = rules.limits().updates_per_space();
            let (mut work, mut rest) = (Duration::ZERO, value);
            while let Some((space, after)) = EncodedSpace::split_first(rest) {
                (work, rest) = (work.saturating_add(space.work(max)), after);
            }
            work
        }
    }
}

/// Hands a record that was read from `source` to the async validator. If the queue is full the
/// record is dropped; another read will find it again.
fn ask_about(
    worker: &mut Worker,
    source: PeerId,
    key: &RecordKey,
    value: &[u8],
    expires_at: Option<Timestamp>,
) {
    let (key_of, value) = (key.clone(), value.to_vec());
    let (publisher, asker, reserved) = (None, None, None);
    let job = InboundRecord { source, key: key_of, value, publisher, expires_at, asker, reserved };
    if let Err((_, reason)) = worker.records.give(job) {
        tracing::debug!(%key, reason = reason.as_str(), "a record found by a read was not stored");
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;
    use crate::behaviour::Behaviour;
    use smart_record_core::{Limits, SpaceSigner};

    /// A field of this tag.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(bytes.len()).unwrap();
        let [low, high] = [len & 127 | 128, len >> 7].map(|part| u8::try_from(part).unwrap());
        [&[tag << 3 | 2, low, high], bytes].concat()
    }

    #[test]
    fn of_too_many_pieces_the_first_are_dropped_and_counted() {
        let (mut behaviour, _client) =
            Behaviour::new(Keypair::generate_ed25519(), kad::PROTOCOL_NAME);
        let env = &mut behaviour.env;
        let mut board = SmartRecord::new("/sr/a".into());
        for n in 0..=PIECE {
            let limits = Limits::default();
            let mut signer = SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), limits);
            let document = [("n", i64::try_from(n).unwrap())].into_iter().collect();
            signer.merge(document, env.now(), Duration::from_secs(60)).unwrap();
            board.join(signer.record(env.now())).unwrap();
        }
        // Two pieces each.
        let (record, mut admission) = (ValidatedRecord::verified(board), Admission::new(None));
        for _ in 0..MAX_PIECES / 2 + 3 {
            admission.store_in_pieces(env, record.clone(), None);
        }
        assert_eq!((admission.pieces, env.counters.get().pieces_dropped), (MAX_PIECES, 6));
        while admission.store_next_piece(env) {}
        assert!(admission.has_stored_all());
        let stored = env.kad.store_mut().record(&"/sr/a".into()).unwrap().unwrap();
        assert_eq!(stored.spaces().len(), PIECE + 1);
    }

    #[cfg(feature = "redb")]
    #[test]
    fn who_sends_a_checked_record_is_charged_for_verifying_what_was_stored() {
        use crate::store::SmartRecordStore;
        use smart_record_core::Clock;

        let (folder, keypair) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
        let (file, local) = (folder.path().join("store"), keypair.public().to_peer_id());
        let key = RecordKey::new("/sr/a");
        // Stored in two pieces.
        let writers = 0..PIECE + 8;
        let mut signers: Vec<_> = writers
            .map(|_| SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default()))
            .collect();
        let mut say = |text: &str| {
            let mut board = SmartRecord::new(key.clone());
            for signer in &mut signers {
                let document = [(text, 1)].into_iter().collect();
                let now = crate::SystemClock.now();
                signer.merge(document, now, Duration::from_secs(60)).unwrap();
                board.join(signer.record(now)).unwrap();
            }
            board
        };
        let (before, after) = (say("before"), say("after"));
        let mut store = SmartRecordStore::open(&file, local).unwrap();
        store.write(&key, &before.encode()).unwrap();
        drop(store);

        let store = SmartRecordStore::open(&file, local).unwrap();
        let (mut behaviour, _client) =
            Behaviour::builder(keypair).with_store(store).unwrap().build();
        let (env, mut admission) = (&mut behaviour.env, Admission::new(None));
        let address = "/ip4/203.0.113.7/tcp/1".parse().unwrap();
        let source = Source::new(PeerId::random(), Some(&address));
        let mut charged = |record| {
            let reserved = Some(env.budget.take_for(&source, Duration::ZERO));
            let begun = env.budget.done();
            let checked = CheckedRecord { record, reserved, work: Duration::ZERO };
            admission.on_checked(env, checked);
            while admission.store_next_piece(env) {}
            assert_eq!(env.kad.store_mut().take_served(), Duration::ZERO);
            env.budget.done().saturating_sub(begun)
        };
        let record = ValidatedRecord::verified(after).brought_by(None);
        let (first, second) = (charged(record.clone()), charged(record));
        assert!(first >= second + Duration::from_millis(1), "{first:?}, {second:?}");
    }

    #[test]
    fn waiting_pieces_are_bounded_in_bytes() {
        let (mut behaviour, _client) =
            Behaviour::new(Keypair::generate_ed25519(), kad::PROTOCOL_NAME);
        let env = &mut behaviour.env;
        let mut board = SmartRecord::new("/sr/a".into());
        let limits = Limits::default().with_update_bytes(64 * 1_024).with_space_bytes(64 * 1_024);
        for _ in 0..=PIECE {
            let keypair = Keypair::generate_ed25519();
            let mut signer = SpaceSigner::new("/sr/a".into(), keypair, limits.clone());
            let document = [("a", "x".repeat(60_000))].into_iter().collect();
            signer.merge(document, env.now(), Duration::from_secs(60)).unwrap();
            board.join(signer.record(env.now())).unwrap();
        }
        let (record, mut admission) = (ValidatedRecord::verified(board), Admission::new(None));
        let (bytes, mut waited) = (record.bytes(), 0);
        assert!(bytes > 60_000 * PIECE);
        for _ in 0..MAX_BYTES / bytes + 10 {
            admission.store_in_pieces(env, record.clone(), None);
            assert!(admission.unstored_bytes <= MAX_BYTES);
            waited = waited.max(admission.pieces);
        }
        assert!(waited < MAX_PIECES && waited * bytes / 2 > MAX_BYTES / 2, "{waited}");
        assert!(env.counters.get().pieces_dropped >= 10);
        while admission.next_piece().is_some() {}
        assert_eq!(admission.unstored_bytes, 0);
    }

    #[test]
    fn bytes_that_no_signature_is_verified_of_are_estimated_as_little_work() {
        let registry = Registry::default();
        let estimate = |value: &[u8]| estimate(&registry, &"/sr/a".into(), value);
        // Shorter than the fields of a record would be: updates of two bytes.
        let empty = [0x12, 0].repeat(3_500);
        // An RSA key of 8 KB, and one of P-256 without content.
        let long = [&[8, 0][..], &field(2, &[1; 8_000])].concat();
        let short = [8, 3, 0x12, 1, 1];
        for (key, most) in [(&long[..], Duration::ZERO), (&short, Duration::from_micros(10))] {
            let space = [field(1, key), empty.clone()].concat();
            let value = field(1, &space);
            assert!(value.len() < PACKET_BYTES && estimate(&value) <= most, "{key:?}");
        }
        // A packet full of what looks like P-256 updates takes a fifth of the pool.
        let space = [field(1, &short), field(2, &[1; 65]).repeat(60)].concat();
        let value = field(1, &space).repeat(4);
        let work = estimate(&value);
        assert!(value.len() <= PACKET_BYTES + 64, "{}", value.len());
        let [least, most] = [50, 100].map(Duration::from_millis);
        assert!(work >= least && work <= most, "{work:?}");
    }
}
