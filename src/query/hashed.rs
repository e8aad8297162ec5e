//! Hashes of the spaces that a read has found, kept until they change.
//!
//! **Invariants.** Pure. The hashes of a space are computed when they are first asked for, and
//! again only if the space has changed or something in it has expired. So what a change costs in
//! hashes goes with what has changed, and with the size of the record no more than its digest, one
//! hash over 32 bytes for each space. A clone shares the hashes until one of the two changes.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Complete".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smart_record_core::{Limits, SmartRecord, Space, Timestamp, Writer};

use super::dropped::{OrderedPlace, order_of, ordered_place};

/// The framing of a space in a record.
const FRAME: usize = 4;
/// What the hashes of a space take, roughly.
const SPACE: usize = 250;

/// The hashes of the spaces of one record.
#[derive(Debug, Default)]
pub(super) struct HashedSpaces(Mutex<Arc<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    /// The spaces by rank.
    spaces: BTreeMap<[u8; 32], HashedSpace>,
    /// The writers whose spaces have changed since.
    changed: BTreeSet<Writer>,
    /// The digest of all, and until when it stays the same.
    digest: Option<([u8; 32], Option<Timestamp>)>,
    /// How many spaces were hashed.
    #[cfg(test)]
    hashed: usize,
}

#[derive(Clone, Debug)]
struct HashedSpace {
    writer: Writer,
    digest: Option<[u8; 32]>,
    /// When the next of its updates is not retained any more.
    until: Option<Timestamp>,
    is_withdrawn: bool,
    order: OrderedPlace,
    bytes: usize,
}

/// The spaces of a record of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfKind {
    pub(super) count: usize,
    /// The place that is evicted first.
    pub(super) last: Option<OrderedPlace>,
}

/// What the hashes say of all spaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) open: OfKind,
    pub(super) withdrawn: OfKind,
    /// The size of the encoded record.
    pub(super) bytes: usize,
}

impl HashedSpace {
    fn new(
        rank: [u8; 32],
        writer: &Writer,
        space: &Space,
        limits: &Limits,
        now: Timestamp,
    ) -> Self {
        let ends = space.updates().map(|update| update.retain_until());
        Self {
            writer: writer.clone(),
            digest: space.digest(&rank, now),
            until: ends.filter(|end| *end > now).min(),
            is_withdrawn: space.is_withdrawn(),
            order: ordered_place(order_of(space, rank, limits.min_stamp_bits())),
            bytes: space.encoded_len(writer).saturating_add(FRAME),
        }
    }
}

impl State {
    /// Hashes the spaces that have changed.
    fn refresh(&mut self, record: &SmartRecord, limits: &Limits, now: Timestamp) {
        for writer in std::mem::take(&mut self.changed) {
            #[cfg(test)]
            {
                self.hashed += 1;
            }
            let rank = writer.rank(record.key());
            match record.space(&writer) {
                Some(space) => {
                    let hashed = HashedSpace::new(rank, &writer, space, limits, now);
                    self.spaces.insert(rank, hashed);
                }
                None => drop(self.spaces.remove(&rank)),
            }
        }
    }
}

impl HashedSpaces {
    /// Handles a change of the spaces of these writers.
    pub(super) fn on_change(&mut self, writers: impl IntoIterator<Item = Writer>) {
        let mut writers = writers.into_iter().peekable();
        if writers.peek().is_some() {
            let state = Arc::make_mut(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
            state.changed.extend(writers);
            state.digest = None;
        }
    }

    /// The [digest](SmartRecord::digest) of the record.
    pub(super) fn digest(&self, record: &SmartRecord, limits: &Limits, now: Timestamp) -> [u8; 32] {
        let mut state = self.lock();
        if let Some((digest, until)) = state.digest
            && until.is_none_or(|until| until > now)
        {
            return digest;
        }
        let state = Arc::make_mut(&mut state);
        let ended = |space: &&HashedSpace| space.until.is_some_and(|until| until <= now);
        let ended = state.spaces.values().filter(ended).map(|space| space.writer.clone());
        state.changed.extend(ended.collect::<Vec<_>>());
        state.refresh(record, limits, now);
        let spaces = || state.spaces.values();
        let digest = SmartRecord::digest_of(spaces().filter_map(|space| space.digest));
        let until = spaces().filter_map(|space| space.until).min();
        state.digest = Some((digest, until));
        digest
    }

    /// What the hashes say of all spaces of the record.
    pub(super) fn summary(&self, record: &SmartRecord, limits: &Limits, now: Timestamp) -> Summary {
        let mut state = self.lock();
        if !state.changed.is_empty() {
            Arc::make_mut(&mut state).refresh(record, limits, now);
        }
        let mut summary = Summary::default();
        for space in state.spaces.values() {
            let of_kind =
                if space.is_withdrawn { &mut summary.withdrawn } else { &mut summary.open };
            of_kind.count = of_kind.count.saturating_add(1);
            of_kind.last = of_kind.last.max(Some(space.order));
            summary.bytes = summary.bytes.saturating_add(space.bytes);
        }
        summary
    }

    /// How much memory they take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.lock().spaces.len().saturating_mul(SPACE)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many spaces were hashed.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.lock().hashed
    }
}

impl Clone for HashedSpaces {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }
}
