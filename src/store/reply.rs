//! Replies to GET: a small record as a whole, or a slice of a large one.
//!
//! **Invariants.** Nothing expired is returned, and nothing that [`SmartRecordStore::record`]
//! leaves out. A slice of a large record fits into Kademlia's reply. Each slice begins where the
//! one before ended; the first begins at a place of the ring of writers that differs from replica
//! to replica. So a reader that joins the replies of many replicas sees different parts.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use std::{collections::HashMap, sync::Mutex, time::Duration};

use libp2p_identity::PeerId;
use libp2p_kad::{Record, RecordKey as KadKey};
use sha2::{Digest, Sha256};

use super::{
    SmartRecordStore, StorageError, lock,
    reply_cache::ReplyCache,
    rows,
    storage::{RecordId, SpaceId},
};
use crate::{
    clock::instant,
    proto::storage::{Board, Head, Value, head::Body},
};
use smart_record_core::{Chunks, RecordKey, Timestamp};

/// A record with less than a second left would be sent with a lifetime of zero, which means none.
pub(super) const LEAST_TTL: Duration = Duration::from_secs(1);

/// State of replies: the cache, and the cursors of large records.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Where the next slice of each large record begins.
    cursors: Mutex<HashMap<RecordId, Cursor>>,
    answers: Mutex<ReplyCache>,
}

impl Replies {
    /// A cached reply, if it is still current.
    pub(super) fn get(&self, key: &KadKey, now: Timestamp) -> Option<Record> {
        lock(&self.answers).get(key, now)
    }

    /// Invalidates the cached reply of a record whose rows are about to change.
    pub(super) fn on_change(&mut self, record: RecordId) {
        lock(&self.answers).forget(record);
    }

    /// Handles the outcome of a write.
    pub(super) fn on_write(&mut self, is_good: bool) {
        lock(&self.answers).on_write(is_good);
    }

    /// Forgets the cursor of a record.
    pub(super) fn forget_place(&mut self, record: RecordId) {
        lock(&self.cursors).remove(&record);
    }
}

/// The position in a large record from which the next slice is taken.
///
/// The spaces are sent in laps around the ring of their ranks. Laps begin at a place that differs
/// from replica to replica. The first two slices of each lap have sizes that depend on the lap, so
/// slice boundaries differ from lap to lap, and several readers that take turns do not get the same
/// share of the record each time.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// The first space of the next slice.
    space: SpaceId,
    /// How many of its updates have been sent, the newest first.
    sent: usize,
    lap: u64,
    /// How many slices of this lap have been sent.
    slices: usize,
    /// The highest ranks that are given out in this lap, once it has begun.
    last: Option<LastRanks>,
}

/// The highest ranks that are given out: of a space that is not withdrawn, and of any.
#[derive(Clone, Copy, Debug)]
struct LastRanks {
    open: SpaceId,
    any: SpaceId,
}

impl Cursor {
    /// The first space of a lap, in effect random. The distance would not do: the holders of a
    /// record are the closest peers to its key, so in a large network their distances differ only
    /// in the last bits, and all of them would begin with the same slice.
    fn start(record: RecordId) -> SpaceId {
        SpaceId(Sha256::digest(record.0).into())
    }

    fn new(record: RecordId, lap: u64) -> Self {
        Self { space: Self::start(record), sent: 0, lap, slices: 0, last: None }
    }

    /// The size of the next slice.
    fn slice_bytes(&self, record: RecordId, max: usize) -> usize {
        let hash = Sha256::new().chain_update(record.0).chain_update(self.lap.to_be_bytes());
        let sizes: [u8; 32] = hash.finalize().into();
        let Some(byte) = sizes.iter().take(2).nth(self.slices).filter(|_| self.lap > 0) else {
            return max;
        };
        // At least a ninth.
        max.saturating_mul(usize::from(*byte).saturating_add(32)) / (256 + 32)
    }
}

/// A reply, when its content expires, and when the reply changes.
type Answered = (Option<Record>, Option<Timestamp>, Option<Timestamp>);

impl SmartRecordStore {
    /// The highest ranks that are given out. Reads rows only if the record holds more spaces than
    /// that.
    fn last_given_out(
        &self,
        key: &RecordKey,
        id: RecordId,
        board: &Board,
        now: Timestamp,
    ) -> Result<LastRanks, StorageError> {
        let spaces = board.spaces.saturating_sub(board.withdrawn_spaces);
        if usize::try_from(spaces).is_ok_and(|spaces| spaces <= self.max_spaces(key).open) {
            return Ok(LastRanks { open: SpaceId::MAX, any: SpaceId::MAX });
        }
        let mut last = LastRanks { open: SpaceId::HEAD, any: SpaceId::HEAD };
        for part in self.given_out(key, id, now) {
            let (id, part) = part?;
            last.any = id.space;
            if !rows::encoded(&part).is_withdrawn() {
                last.open = id.space;
            }
        }
        Ok(last)
    }

    /// The reply to a GET.
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

    /// A smart record of about `bytes` that fits into one reply, when it expires, and when the
    /// reply changes.
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
            // Rows that cannot be read are skipped.
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

    /// Takes a slice of a smart record, and advances the cursor.
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
            // The rest of the lap has been removed; the spaces before the cursor have not.
            cursor = Cursor::new(id, cursor.lap.wrapping_add(1));
            (slice, next) = self.slice_from(key, id, board, cursor, now)?;
        }
        let next = next.unwrap_or_else(|| Cursor::new(id, cursor.lap.wrapping_add(1)));
        lock(&self.replies.cursors).insert(id, next);
        Ok(slice)
    }

    /// The slice at a cursor, and where the next begins if it is in the same lap.
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
        let before_start = start.before().map_or(SpaceId::HEAD, |before| before.min(last.any));
        let (ahead, behind) = match cursor.space < start {
            true => (cursor.space..=before_start, SpaceId::HEAD..=SpaceId::HEAD),
            false => (cursor.space..=last.any, SpaceId::HEAD..=before_start),
        };
        let ring = self.spaces(id, ahead, now).chain(self.spaces(id, behind, now));
        // Withdrawn spaces have places of their own. New spaces may be below the last rank.
        let mut fits = self.max_spaces(key).fits();
        let ring = ring.filter(move |part| {
            part.as_ref().map_or(true, |(id, part)| {
                (id.space <= last.open || rows::encoded(part).is_withdrawn()) && fits(part)
            })
        });
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
            // Rows that cannot be read are skipped.
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

/// A value as it is sent, or `None` if too little of its lifetime is left.
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
