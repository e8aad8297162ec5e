//! Reading: the whole for the local user, a slice for a GET, chunks for replication.
//!
//! **Invariants.** Nothing expired is returned. Of a record no more spaces are returned than its limits allow, the
//! lowest ranks of those that live, whatever else is stored. A slice of a large record fits into Kademlia's reply; the
//! next answer begins where the last one ended, and the first one at a place of the ring of writers that differs
//! from replica to replica. So a reader that joins the answers of many sees different parts.
//!
//! **Spec.** `docs/design.md`, sections "Any subset of a record is a record" and "Quotas".

use std::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::Record;
use sha2::{Digest, Sha256};
use web_time::Instant;

use super::{
    SmartRecordStore, StorageError, lock, rows,
    storage::{Part, PartId, RecordId, SpaceId},
};
use crate::{
    key::RecordKey,
    proto::storage::{Board, Head, Value, head::Body},
    record::{Chunks, SmartRecord, View, Writer},
    time::Timestamp,
    validator::Namespace,
};

/// With less than a second left, a record would go out with a lifetime of zero, which means none.
const LEAST_TTL: Duration = Duration::from_secs(1);

/// A value of another kind than a smart record, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredValue {
    /// The value.
    pub value: Bytes,
    /// When it expires, by its own word or by that of whoever sent it. `None`: no end is set.
    pub expires_at: Option<Timestamp>,
}

/// How far a large record has been handed out.
///
/// The spaces are handed out in laps around the ring of their ranks, which begin at a place of the replica's own.
/// The first two slices of each lap have sizes of their own, so that the slices differ in place and number from
/// lap to lap, and several readers who take turns do not get the same share of the record each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// The space with which the next slice begins.
    space: SpaceId,
    /// How many of its updates have been sent, counted from the newest.
    sent: usize,
    lap: u64,
    /// How many slices of the lap have gone out.
    slices: usize,
    /// The highest rank that is given out in the lap, once it has begun.
    last: Option<SpaceId>,
}

impl Cursor {
    /// Where laps begin and end: at a place as good as random. The distance itself would not do: those who hold a
    /// record are the closest to its key, so in a large network their distances differ in the last bits only, and
    /// all of them would begin with the same slice.
    fn start(record: RecordId) -> SpaceId {
        SpaceId(Sha256::digest(record.0).into())
    }

    fn new(record: RecordId, lap: u64) -> Self {
        Self { space: Self::start(record), sent: 0, lap, slices: 0, last: None }
    }

    /// The size of the slice that begins here.
    fn slice_bytes(&self, record: RecordId, max: usize) -> usize {
        let hash = Sha256::new().chain_update(record.0).chain_update(self.lap.to_be_bytes());
        let sizes: [u8; 32] = hash.finalize().into();
        let Some(byte) = sizes.iter().take(2).nth(self.slices).filter(|_| self.lap > 0) else {
            return max;
        };
        // At least an eighth.
        max.saturating_mul(usize::from(*byte).saturating_add(32)) / (256 + 32)
    }
}

/// An answer, when what it says expires, and when it will be another.
type Answered = (Option<Record>, Option<Timestamp>, Option<Timestamp>);

impl SmartRecordStore {
    /// The smart record under `key` as this node knows it, with at most as many spaces as its limits allow. `None` if
    /// there is none. A damaged space is left out, and counted among the storage's failures.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn record(&self, key: &RecordKey) -> Result<Option<SmartRecord>, StorageError> {
        let now = self.clock.now();
        let mut record = SmartRecord::new(key.clone());
        for part in self.given_out(key, self.record_id(key), now) {
            self.join_row(&mut record, &part?.1, now);
        }
        Ok((record.spaces().len() > 0).then_some(record))
    }

    /// The spaces of these writers under `key`, also those that are stored only because their writer is protected: the
    /// record may have no place for them. Otherwise as [`record`](Self::record).
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    pub fn record_of<'a>(
        &self,
        key: &RecordKey,
        writers: impl IntoIterator<Item = &'a PeerId>,
    ) -> Result<Option<SmartRecord>, StorageError> {
        let now = self.clock.now();
        let id = self.record_id(key);
        let mut record = SmartRecord::new(key.clone());
        let mut hashed = BTreeSet::new();
        for peer in writers {
            match Writer::of_peer(peer) {
                Some(writer) => {
                    if let Some(part) = self.storage.get(&id.part(SpaceId(writer.rank(key))))? {
                        self.join_row(&mut record, &part, now);
                    }
                }
                // The rank is that of the key, which this id does not tell.
                None => _ = hashed.insert(*peer),
            }
        }
        let all = Some(SpaceId::HEAD..=SpaceId::MAX).filter(|_| !hashed.is_empty());
        for part in all.into_iter().flat_map(|all| self.spaces(id, all, now)) {
            let (_, part) = part?;
            if rows::peer_of(&part).is_some_and(|peer| hashed.contains(&peer)) {
                self.join_row(&mut record, &part, now);
            }
        }
        if let Ok(Namespace::Spaces(rules)) = self.registry.resolve(key) {
            record.truncate(rules.limits());
        }
        Ok((record.spaces().len() > 0).then_some(record))
    }

    /// Joins a row into its record, without what has expired.
    fn join_row(&self, record: &mut SmartRecord, part: &Part<'_>, now: Timestamp) {
        let read = rows::read_owned_space(part).inspect_err(|error| self.read_failed(error));
        if let Ok((writer, mut space)) = read {
            space.collect(now);
            record.join_space(writer, space);
        }
    }

    /// What a reader sees now of the smart record under `key`, as this node knows it.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn view(&self, key: &RecordKey) -> Result<View, StorageError> {
        let now = self.clock.now();
        Ok(self.record(key)?.map(|record| record.view(now)).unwrap_or_default())
    }

    /// The value under a key whose records are not kept space by space.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn value(&self, key: &RecordKey) -> Result<Option<StoredValue>, StorageError> {
        let value = self.live_value(self.record_id(key), self.clock.now())?;
        Ok(value.map(|(_, stored, expires_at)| StoredValue { value: stored.value, expires_at }))
    }

    /// The record after this one in the order of distance from the local peer, or the first, whether it lives or not.
    pub(crate) fn next_record(
        &self,
        after: Option<RecordId>,
    ) -> Result<Option<(RecordId, RecordKey)>, StorageError> {
        let from = match after {
            None => Some(PartId::MIN),
            Some(id) => id.after().map(RecordId::head),
        };
        let Some((head, part)) =
            from.and_then(|from| self.storage.scan(&from).next()).transpose()?
        else {
            return Ok(None);
        };
        let key = rows::decode_head(&part).map(|head| head.key).unwrap_or_default();
        Ok(Some((head.record, RecordKey::new(key))))
    }

    /// The living spaces of a record, of these ranks.
    fn spaces(
        &self,
        record: RecordId,
        ranks: RangeInclusive<SpaceId>,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        let (from, last) = (record.part(*ranks.start()), record.part(*ranks.end()));
        let lives = move |id: &PartId, part: &Part<'_>| {
            id.space != SpaceId::HEAD && part.expires_at.is_none_or(|at| at > now)
        };
        self.storage
            .scan(&from)
            .take_while(move |part| part.as_ref().map_or(true, |(id, _)| *id <= last))
            .filter(move |part| part.as_ref().map_or(true, |(id, part)| lives(id, part)))
    }

    /// The spaces of a record that are given out: of those that live as many as the limits allow, the lowest ranks.
    fn given_out(
        &self,
        key: &RecordKey,
        record: RecordId,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        self.spaces(record, SpaceId::HEAD..=SpaceId::MAX, now).take(self.max_spaces(key))
    }

    fn max_spaces(&self, key: &RecordKey) -> usize {
        match self.registry.resolve(key) {
            Ok(Namespace::Spaces(rules)) => rules.limits().spaces_per_record(),
            _ => 0,
        }
    }

    /// The highest rank that is given out. Only of a record that holds more than that are the rows looked at.
    fn last_given_out(
        &self,
        key: &RecordKey,
        id: RecordId,
        board: &Board,
        now: Timestamp,
    ) -> Result<SpaceId, StorageError> {
        if usize::try_from(board.spaces).is_ok_and(|spaces| spaces <= self.max_spaces(key)) {
            return Ok(SpaceId::MAX);
        }
        let last = self.given_out(key, id, now).last().transpose()?;
        Ok(last.map_or(SpaceId::MAX, |(id, _)| id.space))
    }

    /// The value to answer a GET with.
    pub(super) fn answer(
        &self,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StorageError> {
        let id = self.record_id(key);
        let Some(part) = self.storage.get(&id.head())? else {
            return Ok(None);
        };
        let (record, expires_at, until) = match rows::decode_head(&part)? {
            Head { body: Some(Body::Board(board)), .. } => {
                let framing = usize::try_from(board.spaces).unwrap_or(usize::MAX).saturating_mul(4);
                let rows = usize::try_from(board.bytes).unwrap_or(usize::MAX);
                if rows.saturating_add(framing) > self.config.slice_bytes() {
                    return self.slice(key, id, &board, now);
                }
                self.whole(key, id, now)?
            }
            _ => match self.live_value(id, now)? {
                Some((_, value, expires_at)) => {
                    let record = value_record(key, &value, expires_at, now);
                    (record, expires_at, expires_at.map(|at| at.saturating_sub(LEAST_TTL)))
                }
                None => (None, None, None),
            },
        };
        if let Some(record) = &record {
            lock(&self.answers).insert(id, record.clone(), expires_at, now, until);
        }
        Ok(record)
    }

    /// A smart record that fits into one reply, when it expires, and when it will be another.
    fn whole(
        &self,
        key: &RecordKey,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Answered, StorageError> {
        let mut spaces = Vec::new();
        let (mut expires_at, mut until) = (None, None::<Timestamp>);
        for part in self.given_out(key, id, now) {
            let (_, part) = part?;
            let due_at = part.due_at;
            // A row that cannot be read does not stand in the way of others.
            let live = live_space(part, now).inspect_err(|error| self.read_failed(error));
            if let Ok((bytes, at)) = live {
                spaces.push(((), bytes));
                expires_at = expires_at.max(at);
                until = until.into_iter().chain(due_at).min();
            }
        }
        let expires = expires_at.and_then(|at| instant(at, now));
        let value = Chunks::new(spaces.into_iter(), usize::MAX).next();
        let record = value.map(|value| Record {
            key: libp2p_kad::RecordKey::new(key),
            value,
            publisher: None,
            expires,
        });
        Ok((record, expires_at, until))
    }

    /// A slice of a smart record, and moves the cursor on.
    fn slice(
        &self,
        key: &RecordKey,
        id: RecordId,
        board: &Board,
        now: Timestamp,
    ) -> Result<Option<Record>, StorageError> {
        let mut cursor = Cursor::new(id, 0);
        if let Some(saved) = lock(&self.cursors).get(&id) {
            cursor = *saved;
        }
        let (mut slice, mut next) = self.slice_from(key, id, board, cursor, now)?;
        if slice.is_none() {
            // What was left of the lap has gone; what came before has not.
            cursor = Cursor::new(id, cursor.lap.wrapping_add(1));
            (slice, next) = self.slice_from(key, id, board, cursor, now)?;
        }
        let next = next.unwrap_or_else(|| Cursor::new(id, cursor.lap.wrapping_add(1)));
        lock(&self.cursors).insert(id, next);
        Ok(slice)
    }

    /// The slice at a cursor, and where the next begins if that is in the same lap.
    fn slice_from(
        &self,
        key: &RecordKey,
        id: RecordId,
        board: &Board,
        cursor: Cursor,
        now: Timestamp,
    ) -> Result<(Option<Record>, Option<Cursor>), StorageError> {
        let last = match cursor.last {
            Some(last) => last,
            None => self.last_given_out(key, id, board, now)?,
        };
        let start = Cursor::start(id);
        let before_start = start.before().map_or(SpaceId::HEAD, |before| before.min(last));
        let (ahead, behind) = match cursor.space < start {
            true => (cursor.space..=before_start, SpaceId::HEAD..=SpaceId::HEAD),
            false => (cursor.space..=last, SpaceId::HEAD..=before_start),
        };
        // What comes in meanwhile may be below the last.
        let ring = self.spaces(id, ahead, now).chain(self.spaces(id, behind, now));
        let ring = ring.take(self.max_spaces(key));
        let mut failed = None;
        let mut expires_at = None;
        let spaces = ring.map_while(|part| match part {
            Ok((id, part)) => Some((id.space, part)),
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let spaces = spaces.filter_map(|(space, part)| {
            // A row that cannot be read does not stand in the way of others.
            let live = live_space(part, now).inspect_err(|error| self.read_failed(error));
            let (bytes, at) = live.ok()?;
            expires_at = expires_at.max(at);
            Some((space, bytes))
        });
        let max = cursor.slice_bytes(id, self.config.slice_bytes());
        let mut chunks = Chunks::new(spaces, max).resume(cursor.space, cursor.sent);
        let value = chunks.next();
        let next = chunks.position().map(|(space, sent)| Cursor {
            space: *space,
            sent,
            slices: cursor.slices.saturating_add(1),
            last: Some(last),
            ..cursor
        });
        drop(chunks);
        if let Some(error) = failed {
            return Err(error);
        }
        let expires = expires_at.and_then(|at| instant(at, now));
        let record = value.map(|value| Record {
            key: libp2p_kad::RecordKey::new(key),
            value,
            publisher: None,
            expires,
        });
        Ok((record, next))
    }

    /// All that lives, in records that fit into Kademlia's packet: a large one comes as several of one key.
    pub(super) fn all_records(&self) -> impl Iterator<Item = Cow<'_, Record>> {
        let now = self.clock.now();
        {
            let mut snapshot = lock(&self.snapshot);
            snapshot.retain(|_, seen| now.saturating_since(seen.taken_at) <= Seen::JOB);
            if snapshot.len() > self.config.max_records() {
                // Many have gone since they were handed out; so there are never twice as many as records.
                snapshot
                    .retain(|id, _| self.storage.get(&id.head()).is_ok_and(|head| head.is_some()));
            }
        }
        let mut next = Some(PartId::MIN);
        let mut queue = VecDeque::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(record) = queue.pop_front() {
                    return Some(Cow::Owned(record));
                }
                let (head, part) = match self.storage.scan(&next?).next()? {
                    Ok(row) => row,
                    Err(error) => {
                        self.read_failed(&error);
                        return None;
                    }
                };
                next = head.record.after().map(RecordId::head);
                if let Err(error) = self.gather(head.record, &part, now, &mut queue) {
                    self.read_failed(&error);
                }
            }
        })
    }

    fn gather(
        &self,
        id: RecordId,
        head: &Part<'_>,
        now: Timestamp,
        queue: &mut VecDeque<Record>,
    ) -> Result<(), StorageError> {
        let head_expires_at = head.expires_at;
        let head = rows::decode_head(head)?;
        let key = RecordKey::new(head.key);
        match head.body {
            Some(Body::Value(stored)) => {
                if let Some(record) = value_record(&key, &stored, head_expires_at, now) {
                    if let Some(at) = head_expires_at {
                        let seen = Seen { expires_at: at, taken_at: now, superseded: false };
                        // An earlier job may still be at it.
                        lock(&self.snapshot).entry(id).or_insert(seen);
                    }
                    queue.push_back(record);
                }
            }
            _ => {
                let mut expires_at = None;
                let mut spaces = Vec::new();
                for part in self.given_out(&key, id, now) {
                    let live = live_space(part?.1, now);
                    let live = live.inspect_err(|error| self.read_failed(error));
                    if let Ok((bytes, at)) = live {
                        expires_at = expires_at.max(at);
                        spaces.push(((), bytes));
                    }
                }
                let expires = expires_at.and_then(|at| instant(at, now));
                let chunks = Chunks::new(spaces.into_iter(), self.config.chunk_bytes());
                queue.extend(chunks.map(|value| Record {
                    key: libp2p_kad::RecordKey::new(&key),
                    value,
                    publisher: None,
                    expires,
                }));
            }
        }
        Ok(())
    }

    /// What Kademlia's `remove` may do. It is called for records that were seen expired, perhaps long after,
    /// so for a smart record only what has expired goes, and a value that was renewed meanwhile stays.
    pub(super) fn remove_expired(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        let now = self.clock.now();
        let id = self.record_id(key);
        let seen = lock(&self.snapshot).remove(&id);
        if self.live_value(id, now)?.is_none() {
            return self.collect_due(now, 256).map(drop);
        }
        match seen {
            Some(seen) if seen.explains_removal_at(now) => Ok(()),
            _ => self.drop_record(id),
        }
    }
}

/// A value as it was handed to Kademlia's replication job, which calls `remove` when it comes to send a value
/// and finds it expired, even if the value was renewed meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    expires_at: Timestamp,
    taken_at: Timestamp,
    /// Whether the value has been renewed since.
    pub(super) superseded: bool,
}

impl Seen {
    /// How long a run of the job may take: until the next, an hour later by default. It has at most 100 queries
    /// under way, and those to peers that have gone take their time.
    const JOB: Duration = Duration::from_secs(60 * 60);

    fn explains_removal_at(self, now: Timestamp) -> bool {
        self.superseded
            && self.expires_at.saturating_sub(LEAST_TTL) <= now
            && now.saturating_since(self.taken_at) <= Self::JOB
    }
}

/// A living space, encoded without what has expired, and when its last update does.
fn live_space(part: Part<'_>, now: Timestamp) -> Result<(Bytes, Option<Timestamp>), StorageError> {
    if part.due_at.is_none_or(|at| at > now) {
        return Ok((Bytes::from(part.bytes.into_owned()), part.expires_at));
    }
    let (writer, mut space) = rows::read_owned_space(&part)?;
    space.collect(now);
    Ok((space.encode(&writer).into(), space.retain_until()))
}

fn value_record(
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
        expires: expires_at.and_then(|at| instant(at, now)),
    })
}

/// The instant of the monotonic clock at which wall-clock time `at` comes; `None` if it is out of range.
pub(super) fn instant(at: Timestamp, now: Timestamp) -> Option<Instant> {
    Instant::now().checked_add(at.saturating_since(now))
}

/// The wall-clock time at which an instant of the monotonic clock comes; `now` if it has passed.
pub(crate) fn wall_clock(at: Instant, now: Timestamp) -> Timestamp {
    now.saturating_add(at.saturating_duration_since(Instant::now()))
}
