//! Reading: the whole for the local user, a slice for a GET, chunks for replication.
//!
//! **Invariants.** Nothing expired is returned. A slice of a large record fits into Kademlia's reply; the next
//! answer begins where the last one ended, and the first one at a place of the ring of writers that differs
//! from replica to replica. So a reader that joins the answers of many sees different parts.

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use libp2p_identity::PeerId;
use libp2p_kad::Record;
use prost::bytes::Bytes;
use web_time::Instant;

use super::{
    SmartRecordStore, StorageError, lock, rows,
    storage::{Part, PartId, RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    proto::storage::{Board, Head, Opaque, head::Body},
    record::{SmartRecord, View, chunk::Chunks},
    time::Timestamp,
};

/// Where a slice begins: a space, and how many of its updates have been sent.
type Cursor = (SpaceId, usize);

/// With less than a second left, a record would go out with a lifetime of zero, which means none.
const LEAST_TTL: Duration = Duration::from_secs(1);

impl<S: Storage> SmartRecordStore<S> {
    /// The smart record under `key`, whole, as this node knows it. `None` if there is none.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn record(&self, key: &RecordKey) -> Result<Option<SmartRecord>, StorageError> {
        let now = self.clock.now();
        let mut record = SmartRecord::new(key.clone());
        for part in self.spaces(self.record_id(key), SpaceId::HEAD) {
            let (writer, mut space) = rows::read_space(&part?.1)?;
            space.collect(now);
            record.join_space(writer, space);
        }
        Ok((record.spaces().len() > 0).then_some(record))
    }

    /// What a reader sees now of the smart record under `key`, as this node knows it.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn view(&self, key: &RecordKey) -> Result<View, StorageError> {
        let now = self.clock.now();
        Ok(self.record(key)?.map(|record| record.view(now)).unwrap_or_default())
    }

    /// The spaces of a record, of at least this rank.
    fn spaces(
        &self,
        record: RecordId,
        from: SpaceId,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        self.storage
            .scan(&record.part(from))
            .take_while(move |part| part.as_ref().map_or(true, |(id, _)| id.record == record))
            .filter(|part| part.as_ref().map_or(true, |(id, _)| id.space != SpaceId::HEAD))
    }

    /// The value to answer a GET with.
    pub(super) fn answer(&self, key: &RecordKey) -> Result<Option<Record>, StorageError> {
        let now = self.clock.now();
        let id = self.record_id(key);
        let Some(part) = self.storage.get(&id.head())? else {
            return Ok(None);
        };
        match rows::decode_head(&part)? {
            Head { body: Some(Body::Board(board)), .. } => self.slice(key, id, board, now),
            _ => Ok(self
                .live_opaque(id, now)?
                .and_then(|(_, opaque, expires_at)| opaque_record(key, &opaque, expires_at, now))),
        }
    }

    /// A slice of a smart record, the whole if it is small, and moves the cursor on.
    fn slice(
        &self,
        key: &RecordKey,
        id: RecordId,
        board: Board,
        now: Timestamp,
    ) -> Result<Option<Record>, StorageError> {
        let max = self.config.slice_bytes();
        let framing = usize::try_from(board.spaces).unwrap_or(usize::MAX).saturating_mul(4);
        let whole = usize::try_from(board.bytes).unwrap_or(usize::MAX).saturating_add(framing);
        if whole <= max {
            return Ok(self.slice_from(key, id, (SpaceId::HEAD, 0), now)?.0);
        }
        let first = (SpaceId(id.0), 0);
        let cursor = lock(&self.cursors).get(&id).copied().unwrap_or(first);
        let (mut slice, mut next) = self.slice_from(key, id, cursor, now)?;
        if slice.is_none() {
            // All that the cursor pointed to has gone; what is before it has not.
            (slice, next) = self.slice_from(key, id, first, now)?;
        }
        match next {
            Some(next) => lock(&self.cursors).insert(id, next),
            None => lock(&self.cursors).remove(&id),
        };
        Ok(slice)
    }

    /// The slice that begins with a space, of which some updates have been sent, and where the next begins.
    fn slice_from(
        &self,
        key: &RecordKey,
        id: RecordId,
        (start, sent): Cursor,
        now: Timestamp,
    ) -> Result<(Option<Record>, Option<Cursor>), StorageError> {
        let before = self
            .spaces(id, SpaceId::HEAD)
            .take_while(|part| part.as_ref().map_or(true, |(id, _)| id.space < start));
        let ring = self.spaces(id, start).chain(before);
        let mut failed = None;
        let mut expires_at = None;
        let live = ring.map_while(|part| {
            match part.and_then(|(id, part)| Ok((id.space, live_space(part, now)?))) {
                Ok(pair) => Some(pair),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        });
        let spaces = live.filter_map(|(space, live)| {
            let (bytes, at) = live?;
            expires_at = expires_at.max(at);
            Some((space, bytes))
        });
        let mut chunks = Chunks::new(spaces, self.config.slice_bytes()).resume(start, sent);
        let value = chunks.next();
        let next = chunks.position().map(|(space, sent)| (*space, sent));
        drop(chunks);
        if let Some(error) = failed {
            return Err(error);
        }
        let expires = expires_at.and_then(|at| instant(at, now));
        let record = value.map(|value| Record { key: key.into(), value, publisher: None, expires });
        Ok((record, next))
    }

    /// All that lives, in records that fit into Kademlia's packet: a large one comes as several of one key.
    pub(super) fn all_records(&self) -> impl Iterator<Item = Cow<'_, Record>> {
        let now = self.clock.now();
        lock(&self.snapshot).retain(|_, seen| now.saturating_since(seen.taken_at) <= Seen::JOB);
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
            Some(Body::Opaque(opaque)) => {
                if let Some(record) = opaque_record(&key, &opaque, head_expires_at, now) {
                    if let Some(at) = head_expires_at {
                        let seen = Seen { expires_at: at, taken_at: now, superseded: false };
                        lock(&self.snapshot).insert(id, seen);
                    }
                    queue.push_back(record);
                }
            }
            _ => {
                let mut expires_at = None;
                let mut spaces = Vec::new();
                for part in self.spaces(id, SpaceId::HEAD) {
                    if let Some((bytes, at)) = live_space(part?.1, now)? {
                        expires_at = expires_at.max(at);
                        spaces.push(((), bytes));
                    }
                }
                let expires = expires_at.and_then(|at| instant(at, now));
                let chunks = Chunks::new(spaces.into_iter(), self.config.chunk_bytes());
                queue.extend(chunks.map(|value| Record {
                    key: (&key).into(),
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
        if self.live_opaque(id, now)?.is_none() {
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
    /// How long a run of the job may take: at ten records each time that it is polled, a full store is sent in
    /// much less.
    const JOB: Duration = Duration::from_secs(5 * 60);

    fn explains_removal_at(self, now: Timestamp) -> bool {
        self.superseded
            && self.expires_at.saturating_sub(LEAST_TTL) <= now
            && now.saturating_since(self.taken_at) <= Self::JOB
    }
}

/// The encoded space without what has expired, and when its last update does; `None` if nothing lives.
fn live_space(
    part: Part<'_>,
    now: Timestamp,
) -> Result<Option<(Bytes, Option<Timestamp>)>, StorageError> {
    if part.expires_at.is_some_and(|at| at <= now) {
        return Ok(None);
    }
    if part.due_at.is_none_or(|at| at > now) {
        let bytes = Bytes::from(part.bytes.into_owned());
        return Ok(Some((bytes, part.expires_at)));
    }
    let (writer, mut space) = rows::read_space(&part)?;
    space.collect(now);
    Ok((!space.is_empty()).then(|| (space.encode(&writer).into(), space.retain_until())))
}

fn opaque_record(
    key: &RecordKey,
    opaque: &Opaque,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Record> {
    let left = expires_at.map(|at| at.saturating_since(now));
    let least = if opaque.expiry_is_signed { Duration::from_millis(1) } else { LEAST_TTL };
    if left.is_some_and(|left| left < least) {
        return None;
    }
    Some(Record {
        key: key.into(),
        value: opaque.value.to_vec(),
        publisher: PeerId::from_bytes(&opaque.publisher).ok(),
        expires: expires_at.and_then(|at| instant(at, now)),
    })
}

/// The instant of the monotonic clock at which wall-clock time `at` comes; `None` if it is out of range.
fn instant(at: Timestamp, now: Timestamp) -> Option<Instant> {
    Instant::now().checked_add(at.saturating_since(now))
}

/// The wall-clock time at which an instant of the monotonic clock comes; `now` if it has passed.
pub(super) fn wall_clock(at: Instant, now: Timestamp) -> Timestamp {
    now.saturating_add(at.saturating_duration_since(Instant::now()))
}
