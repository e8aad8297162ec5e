//! Replies: what a GET is answered with, the whole of a small record or a slice of a large one.
//!
//! **Invariants.** Nothing expired is returned, and no more than [`SmartRecordStore::record`] would. A slice of a large
//! record fits into Kademlia's reply; the next answer begins where the last one ended, and the first one at a place of the
//! ring of writers that differs from replica to replica. So a reader that joins the answers of many sees different parts.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use std::{collections::HashMap, sync::Mutex, time::Duration};

use libp2p_identity::PeerId;
use libp2p_kad::{Record, RecordKey as KadKey};
use sha2::{Digest, Sha256};

use super::{
    SmartRecordStore, StorageError,
    answers::Answers,
    lock, rows,
    storage::{RecordId, SpaceId},
};
use crate::{
    clock::instant,
    proto::storage::{Board, Head, Value, head::Body},
};
use smart_record_core::{Chunks, RecordKey, Timestamp};

/// With less than a second left, a record would go out with a lifetime of zero, which means none.
pub(super) const LEAST_TTL: Duration = Duration::from_secs(1);

/// What is remembered of replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Where the next slice of a large record begins.
    cursors: Mutex<HashMap<RecordId, Cursor>>,
    answers: Mutex<Answers>,
}

impl Replies {
    /// A reply that was put together before, if it would be the same now.
    pub(super) fn get(&self, key: &KadKey, now: Timestamp) -> Option<Record> {
        lock(&self.answers).get(key, now)
    }

    /// Rows of this record are about to change.
    pub(super) fn on_change(&mut self, record: RecordId) {
        lock(&self.answers).forget(record);
    }

    /// A write has gone well, or not.
    pub(super) fn on_write(&mut self, is_good: bool) {
        lock(&self.answers).on_write(is_good);
    }

    /// Forgets how far a record has been handed out.
    pub(super) fn forget_place(&mut self, record: RecordId) {
        lock(&self.cursors).remove(&record);
    }
}

/// How far a large record has been handed out.
///
/// The spaces are handed out in laps around the ring of their ranks, which begin at a place of the replica's own.
/// The first two slices of each lap have sizes of their own, so that the slices differ in place and number from
/// lap to lap, and several readers who take turns do not get the same share of the record each time.
#[derive(Clone, Copy, Debug)]
struct Cursor {
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
        let id = self.table.record_id(key);
        let Some(part) = self.table.storage.get(&id.head())? else {
            return Ok(None);
        };
        let (record, expires_at, until) = match rows::decode_head(&part)? {
            Head { body: Some(Body::Board(board)), .. } => {
                let framing = usize::try_from(board.spaces).unwrap_or(usize::MAX).saturating_mul(4);
                let rows = usize::try_from(board.bytes).unwrap_or(usize::MAX);
                let bytes = rows.saturating_add(framing);
                if bytes > self.config.slice_bytes() {
                    return self.slice(key, id, &board, now);
                }
                self.whole(key, id, bytes, now)?
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
            lock(&self.replies.answers).insert(id, record.clone(), expires_at, now, until);
        }
        Ok(record)
    }

    /// A smart record that fits into one reply, about so many `bytes`; when it expires, and when it will be another.
    fn whole(
        &self,
        key: &RecordKey,
        id: RecordId,
        bytes: usize,
        now: Timestamp,
    ) -> Result<Answered, StorageError> {
        let mut spaces = Vec::new();
        let (mut expires_at, mut until) = (None, None::<Timestamp>);
        for part in self.given_out(key, id, now) {
            let (_, part) = part?;
            let due_at = part.due_at;
            // A row that cannot be read does not stand in the way of others.
            let live =
                rows::live_space(part, now).inspect_err(|error| self.news.read_failed(error));
            if let Ok((space, at)) = live {
                spaces.push(((), space));
                expires_at = expires_at.max(at);
                until = until.into_iter().chain(due_at).min();
            }
        }
        let expires = expires_at.and_then(|at| instant(at, now));
        let value = Chunks::new(spaces.into_iter(), usize::MAX).with_capacity(bytes).next();
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
        if let Some(saved) = lock(&self.replies.cursors).get(&id) {
            cursor = *saved;
        }
        let (mut slice, mut next) = self.slice_from(key, id, board, cursor, now)?;
        if slice.is_none() {
            // What was left of the lap has gone; what came before has not.
            cursor = Cursor::new(id, cursor.lap.wrapping_add(1));
            (slice, next) = self.slice_from(key, id, board, cursor, now)?;
        }
        let next = next.unwrap_or_else(|| Cursor::new(id, cursor.lap.wrapping_add(1)));
        lock(&self.replies.cursors).insert(id, next);
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
            let live =
                rows::live_space(part, now).inspect_err(|error| self.news.read_failed(error));
            let (bytes, at) = live.ok()?;
            expires_at = expires_at.max(at);
            Some((space, bytes))
        });
        let max = cursor.slice_bytes(id, self.config.slice_bytes());
        let chunks = Chunks::new(spaces, max).with_capacity(max);
        let mut chunks = chunks.resume(cursor.space, cursor.sent);
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
}

/// A value as it goes out; nothing if too little of its lifetime is left.
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
        expires: expires_at.and_then(|at| instant(at, now)),
    })
}
