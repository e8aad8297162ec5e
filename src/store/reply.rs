//! Replies to GET: a small record as a whole, or a slice of a large one. Each says what it covers.
//!
//! **Invariants.** Nothing expired is returned, and nothing that [`SmartRecordStore::record`]
//! leaves out. A slice of a large record fits into Kademlia's reply. A reply covers only places of
//! the ring of which it shows every space whole. A space that does not fit is passed over and is
//! the first of the next slice, so none can keep others out of a slice.
//!
//! **Spec.** `docs/wire.md`, section "Coverage"; `docs/design.md`, section "Any subset of a record
//! is a record".

use std::{sync::Mutex, time::Duration};

use libp2p_identity::PeerId;
use libp2p_kad::{Record, RecordKey as KadKey};

use super::{
    SmartRecordStore, StorageError,
    cursors::{Asker, Cursors, Walk},
    digests::{Digests, LastRanks, Summary},
    event::{self, Origin},
    lock,
    reply_cache::{Encoded, ReplyCache},
    rows,
    source::Source,
    storage::{Part, PartId, RecordId, SpaceId},
};
use crate::{
    clock::instant,
    proto::storage::{Board, Head, Value, head::Body},
};
use smart_record_core::{
    AskerTag, Coverage, EncodedSpace, RecordKey, RingArc, Slice, SmartRecord, Timestamp, Writer,
};

/// A record with less than a second left would be sent with a lifetime of zero, which means none.
pub(super) const LEAST_TTL: Duration = Duration::from_secs(1);
/// Kademlia counts the whole seconds that are left when it encodes the answer, a moment later. With
/// so much left these are one.
const ONE_SECOND: Duration = Duration::from_millis(1_999);

/// Maximum number of spaces that a slice passes over, so that the arcs between them and those of
/// the ones that the last slice has passed over are no more than a coverage has.
const PASSED: usize = 3;
/// Share of a slice that has to be free for a space to be passed over; otherwise the slice ends.
const FREE: usize = 8;
/// The framing of a space in a record.
const FRAME: usize = 4;
/// What an answer has beside the spaces.
const TAIL: usize = Coverage::MAX_BYTES + AskerTag::BYTES;

/// State of replies: the cache, the digests of large records, and where their slices begin.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) digests: Mutex<Digests>,
    cursors: Mutex<Cursors>,
    /// The peer whose request is being handled.
    asker: Option<Asker>,
    answers: Mutex<ReplyCache>,
}

impl Replies {
    /// A cached reply, if it is still current.
    pub(super) fn get(&self, key: &KadKey, now: Timestamp) -> Option<Record> {
        let (mut record, is_smart) = lock(&self.answers).get(key, now)?;
        if is_smart {
            self.address(&mut record);
        }
        Some(record)
    }

    /// Adds to the reply with a smart record for whom it is, if that is known.
    fn address(&self, record: &mut Record) {
        if let Some(asker) = self.asker {
            AskerTag::of(&asker.peer).append_to(&mut record.value);
        }
    }

    /// Invalidates the cached reply of a record of which a row is about to change.
    pub(super) fn on_change(&mut self, id: PartId) {
        lock(&self.answers).forget(id.record);
        lock(&self.digests).on_change(id);
    }

    /// Handles the outcome of a write.
    pub(super) fn on_write(&mut self, is_good: bool) {
        lock(&self.answers).on_write(is_good);
        if !is_good {
            *lock(&self.digests) = Digests::default();
        }
    }

    /// Forgets the digest of a record.
    pub(super) fn forget(&mut self, record: RecordId) {
        lock(&self.digests).forget(record);
    }
}

/// A key, and the same as Kademlia has it.
type Key<'a> = (&'a RecordKey, &'a KadKey);

/// Arcs of the ring in ascending order from where a walk goes on.
struct Shown {
    origin: u64,
    /// The first place after the origin that no arc covers and no space was passed over at.
    from: u128,
    arcs: Vec<RingArc>,
}

impl Shown {
    /// Ends the arc before a place at which something is not shown. The next begins after it.
    fn skip(&mut self, place: u64) {
        let at = u128::from(place.wrapping_sub(self.origin));
        self.end(at);
        self.from = self.from.max(at.saturating_add(1));
    }

    /// Ends the arc before this many places after the origin.
    fn end(&mut self, end: u128) {
        let place = |after: u128| {
            let after = u64::try_from(after).unwrap_or(u64::MAX);
            self.origin.wrapping_add(after)
        };
        if self.from < end {
            let arc = RingArc { first: place(self.from), last: place(end.saturating_sub(1)) };
            self.arcs.push(arc);
        }
    }
}

impl SmartRecordStore {
    /// Tells the store which peer asks for records, or brings them, until further notice; `None` if
    /// that is unknown.
    ///
    /// Kademlia calls the store while it handles one message of one peer, and does not tell whose.
    /// A [`Behaviour`](crate::behaviour::Behaviour) does. Each peer then gets one slice of a large
    /// record after the other, whatever others ask. Otherwise each slice begins at a place drawn
    /// anew. And each address prefix has a share of its own in a full store; what peers that are
    /// not known bring is in one.
    pub const fn asked_by(&mut self, asker: Option<Asker>) {
        self.replies.asker = asker;
    }

    /// The source of a write that the peer that is asking, or this node, makes.
    pub(super) fn source_of(&self, origin: Origin) -> Source {
        match (origin, self.replies.asker) {
            (Origin::Local, _) => Source::OWN,
            (Origin::Remote, Some(asker)) => asker.source,
            (Origin::Remote, None) => Source::UNKNOWN,
        }
    }

    /// Tells the store which peers are in the routing table, by the SHA-256 of their ids, as in
    /// [`KBucketKey::hashed_bytes`](libp2p_kad::KBucketKey::hashed_bytes). The replicas of a
    /// record, which know each other, then begin its slices in different parts of it. A
    /// [`Behaviour`](crate::behaviour::Behaviour) does so.
    pub fn set_neighbours(&mut self, digests: Vec<[u8; 32]>) {
        lock(&self.replies.cursors).set_neighbours(digests, self.table.place());
    }

    /// The reply to a GET.
    pub(super) fn answer(
        &self,
        kad_key: &KadKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StorageError> {
        let key = &RecordKey::new(kad_key.to_vec());
        let id = self.table.record_id(key);
        let Some(part) = self.table.storage.get(&id.head())? else {
            return Ok(None);
        };
        let reply = match rows::decode_head(&part)? {
            Head { body: Some(Body::Board(board)), .. } => {
                let spaces = usize::try_from(board.spaces).unwrap_or(usize::MAX);
                let rows = usize::try_from(board.bytes).unwrap_or(usize::MAX);
                let bytes = rows.saturating_add(spaces.saturating_mul(FRAME)).saturating_add(TAIL);
                if bytes > self.config.slice_bytes() {
                    let mut record = self.slice((key, kad_key), id, now)?;
                    record.iter_mut().for_each(|record| self.replies.address(record));
                    return Ok(record);
                }
                let board = self.table.certain(id, board)?;
                self.whole((key, kad_key), id, board, bytes, now)?
            }
            _ => self.live_value(id, now)?.and_then(|(_, value, expires_at)| {
                let record = value_record(key, &value, expires_at, now)?;
                let until = expires_at.map(|at| at.saturating_sub(ONE_SECOND));
                Some(Encoded { record, is_smart: false, expires_at, until })
            }),
        };
        let Some(mut reply) = reply else { return Ok(None) };
        lock(&self.replies.answers).on_encoded(id, &reply, now);
        if reply.is_smart {
            self.replies.address(&mut reply.record);
        }
        Ok(Some(reply.record))
    }

    /// The reply with a smart record of about `bytes`, as a whole.
    fn whole(
        &self,
        (key, kad_key): Key<'_>,
        id: RecordId,
        board: Board,
        bytes: usize,
        now: Timestamp,
    ) -> Result<Option<Encoded>, StorageError> {
        let mut slice = Slice::new(usize::MAX, bytes);
        let (mut expires_at, mut until) = (None, None::<Timestamp>);
        let mut digests = Vec::with_capacity(usize::try_from(board.spaces).unwrap_or(0));
        for row in self.given_out(key, id, board, now) {
            let (_, part) = row?;
            slice.push(&part.bytes);
            digests.extend(part.digest);
            expires_at = expires_at.max(part.expires_at);
            until = until.into_iter().chain(part.due_at).min();
        }
        let coverage = Coverage::new(
            [RingArc::RING],
            u32::try_from(digests.len()).unwrap_or(u32::MAX),
            SmartRecord::digest_of(digests),
        );
        let record = reply(kad_key, slice, &coverage, expires_at, now);
        Ok(record.map(|record| Encoded { record, is_smart: true, expires_at, until }))
    }

    /// Takes a slice of a smart record, and remembers where the next begins.
    fn slice(
        &self,
        (key, kad_key): Key<'_>,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Option<Record>, StorageError> {
        let asker = self.replies.asker;
        let (mut walk, is_new) = lock(&self.replies.cursors).walk(id, asker, now);
        // The space of the peer that asks is first in its first slice, and in each other if it is
        // small: it looks for what it has written.
        let own = asker.and_then(|asker| Writer::of_peer(&asker.peer));
        let own = own.map(|writer| SpaceId(writer.rank(key)));
        walk.passed.extend(own.filter(|_| is_new));
        let summary = self.summary(key, id, now)?;
        let (mut record, mut next) =
            self.slice_from(kad_key, id, walk.clone(), own, summary, now)?;
        if record.is_none() && walk.at != walk.start {
            // The rest of the lap has been removed; the spaces before it have not.
            walk.at = walk.start;
            (record, next) = self.slice_from(kad_key, id, walk, own, summary, now)?;
        }
        if let Some(asker) = asker {
            let forgotten = lock(&self.replies.cursors).set(id, asker, next, now);
            self.news.counters.change_by_ref(|c| event::count(&mut c.walks_forgotten, forgotten));
        }
        Ok(record)
    }

    /// The slice at a place of a walk, and the walk after it.
    fn slice_from(
        &self,
        key: &KadKey,
        id: RecordId,
        mut walk: Walk,
        own: Option<SpaceId>,
        summary: Summary,
        now: Timestamp,
    ) -> Result<(Option<Record>, Walk), StorageError> {
        let max = self.config.slice_bytes().saturating_sub(TAIL);
        let mut slice = Slice::new(max, max);
        let mut expires_at = None;
        let mut first = Vec::new();
        let (passed, part) = (std::mem::take(&mut walk.passed), walk.part.take());
        let (mut whole, mut in_part) = (Vec::new(), Vec::new());
        for space in passed {
            let row = self.table.storage.get(&id.part(space))?;
            let Some(Part { bytes, expires_at: at, .. }) =
                row.and_then(|row| self.live(space, row, now))
            else {
                if self.is_alone(id, space, now)? {
                    first.push(RingArc { first: space.place(), last: space.place() });
                }
                continue;
            };
            let sent = part.filter(|(of, _)| *of == space).map_or(0, |(_, sent)| sent);
            if sent == 0 && slice.push(&bytes) {
                whole.push(space);
                if self.is_alone(id, space, now)? {
                    first.push(RingArc { first: space.place(), last: space.place() });
                }
            } else if slice.is_empty() {
                // Sent in parts, so no reply shows it whole.
                walk.part = slice.push_part(&bytes, sent).map(|sent| (space, sent));
                walk.passed.extend(walk.part.map(|(space, _)| space));
                // Except an update that is larger than a slice, and alone.
                let is_whole = sent == 0 && walk.part.is_none();
                if is_whole { &mut whole } else { &mut in_part }.push(space);
            } else {
                walk.passed.push(space);
                continue;
            }
            expires_at = expires_at.max(at);
        }
        if let Some(space) = own.filter(|own| !whole.contains(own) && !walk.passed.contains(own))
            && let Some(row) = self.table.storage.get(&id.part(space))?
            && let Some(Part { bytes, expires_at: at, .. }) = self.live(space, row, now)
            && bytes.len() <= max / FREE
            && slice.push(&bytes)
        {
            whole.push(space);
            expires_at = expires_at.max(at);
        }
        if walk.skip > 0 {
            self.skip(id, &mut walk, summary, now)?;
        }
        let mut shown = Shown { origin: walk.at.place(), from: 0, arcs: first };
        if !self.is_first(id, walk.at, now)? {
            shown.from = 1;
        }
        let mut end = None;
        for part in self.ring(id, walk.at, walk.start, summary.last, now) {
            let (PartId { space, .. }, Part { bytes, expires_at: at, .. }) = part?;
            if walk.passed.contains(&space) || in_part.contains(&space) {
                shown.skip(space.place());
                continue;
            }
            if whole.contains(&space) {
                continue;
            }
            if slice.push(&bytes) {
                expires_at = expires_at.max(at);
            } else if slice.is_empty() {
                let sent = self.part_of_drawn(&bytes);
                walk.part = slice.push_part(&bytes, sent).map(|sent| (space, sent));
                walk.passed.extend(walk.part.map(|(space, _)| space));
                if sent > 0 || walk.part.is_some() {
                    shown.skip(space.place());
                }
                expires_at = expires_at.max(at);
            } else if slice.room() >= max / FREE && walk.passed.len() < PASSED {
                if self.replies.asker.is_none() && bytes.len() > max {
                    // It fits into no slice, and is seldom the first of one that begins anywhere.
                    slice.push_part(&bytes, self.part_of_drawn(&bytes));
                    expires_at = expires_at.max(at);
                }
                walk.passed.push(space);
                shown.skip(space.place());
            } else {
                shown.end(u128::from(space.place().wrapping_sub(shown.origin)));
                end = Some(space);
                break;
            }
        }
        if end.is_none() {
            let lap = walk.start.place().wrapping_sub(shown.origin);
            let ring = u128::from(u64::MAX).saturating_add(1);
            shown.end(if lap == 0 { ring } else { lap.into() });
        }
        walk.at = end.unwrap_or(walk.start);
        let coverage = Coverage::new(shown.arcs, summary.spaces, summary.digest);
        Ok((reply(key, slice, &coverage, expires_at, now), walk))
    }

    /// The spaces of a record that are given out, without what has expired, along the ring from
    /// `at` to the one before `start`.
    fn ring(
        &self,
        id: RecordId,
        at: SpaceId,
        start: SpaceId,
        last: LastRanks,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        let end = last.of_any();
        let before_start = start.before().map_or(SpaceId::HEAD, |before| before.min(end));
        let (ahead, behind) = match at < start {
            true => (at..=before_start, SpaceId::HEAD..=SpaceId::HEAD),
            false => (at..=end, SpaceId::HEAD..=before_start),
        };
        let has = move |id: SpaceId, part: &Part<'_>| last.has(id, part);
        let ahead = self.live_spaces(id, ahead, now, has);
        ahead.chain(self.live_spaces(id, behind, now, has))
    }

    /// Moves the beginning of a walk by the spaces that it skips.
    fn skip(
        &self,
        id: RecordId,
        walk: &mut Walk,
        summary: Summary,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let mut ring = self.ring(id, walk.start, walk.start, summary.last, now);
        if let Some(part) = ring.nth(std::mem::take(&mut walk.skip)) {
            let space = part?.0.space;
            (walk.start, walk.at) = (space, space);
        }
        Ok(())
    }

    /// How many of the newest updates are left out of a space that is the first of a slice and does
    /// not fit: none for a peer whose walk goes on, and otherwise any number half of the time.
    fn part_of_drawn(&self, space: &[u8]) -> usize {
        if self.replies.asker.is_some() {
            return 0;
        }
        let drawn = lock(&self.replies.cursors).draw();
        let updates = u64::try_from(EncodedSpace::new(space).update_count()).unwrap_or(0);
        let sent = (drawn / 2).checked_rem(updates).filter(|_| drawn.is_multiple_of(2));
        usize::try_from(sent.unwrap_or(0)).unwrap_or(0)
    }

    /// Whether no space before this one has its place.
    fn is_first(&self, id: RecordId, space: SpaceId, now: Timestamp) -> Result<bool, StorageError> {
        let Some(before) = space.before() else { return Ok(true) };
        let start = SpaceId::at(space.place());
        Ok(start == space || self.spaces(id, start..=before, now).next().transpose()?.is_none())
    }

    /// Whether no other space has the place of this one.
    fn is_alone(&self, id: RecordId, space: SpaceId, now: Timestamp) -> Result<bool, StorageError> {
        let (start, next) = (SpaceId::at(space.place()), space.place().checked_add(1));
        let end = next.and_then(|place| SpaceId::at(place).before()).unwrap_or(SpaceId::MAX);
        let mut others = self
            .spaces(id, start..=end, now)
            .filter(|part| part.as_ref().map_or(true, |(part_id, _)| part_id.space != space));
        Ok(others.next().transpose()?.is_none())
    }
}

/// A reply with a record, if there is anything in it.
fn reply(
    key: &KadKey,
    slice: Slice,
    coverage: &Coverage,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Record> {
    if slice.is_empty() {
        return None;
    }
    let mut value = slice.into_bytes();
    coverage.append_to(&mut value);
    Some(Record {
        key: key.clone(),
        value,
        publisher: None,
        expires: expires_at.and_then(|at| instant(at, now)),
    })
}

/// A value as it is sent, or `None` if too little of its lifetime is left. In the last two seconds
/// it is sent with a second.
pub(super) fn value_record(
    key: &RecordKey,
    stored: &Value,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Record> {
    let left = expires_at.map(|at| at.saturating_since(now));
    let least = if stored.expiry_is_signed { Duration::from_millis(1) } else { LEAST_TTL };
    if left.is_some_and(|left| left < least) {
        return None;
    }
    Some(Record {
        key: libp2p_kad::RecordKey::new(key),
        value: stored.value.to_vec(),
        publisher: PeerId::from_bytes(&stored.publisher).ok(),
        expires: expires_at.and_then(|at| instant(at.max(now.saturating_add(ONE_SECOND)), now)),
    })
}
