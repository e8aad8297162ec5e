//! Format of the file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `format`: u32; `owner`: binary peer id; `session`: 12 bytes; `usage`: records u64, bytes u64, checksum |
//! | `rows` | record id, for a space followed by its rank: 32 or 64 bytes | a row, see below |
//! | `due` | u64 milliseconds, big-endian; 16 bytes of the record id, 16 of the rank | nothing |
//! | `tallies` | 16 bytes | count u64, bytes u64, checksum |
//! | `notes` | name | the note, checksum |
//!
//! A row is: checksum; the first 4 bytes of its session; flags u8; the other 8 bytes of its session
//! if flag 16; the fields of the part ([`Fields`]); the bytes. A row without the flags 8 and 16 is
//! of format 2, whose sessions were numbers. Integers are little-endian unless noted otherwise. A
//! checksum is the CRC-32 of the key and of everything else in the value.
//!
//! **Invariants.** `format` can be read in any version of the format. The expiry index holds only
//! the first halves of ids. Two rows with equal halves that are due in the same millisecond share
//! an entry. This takes a collision of 128 bits, and its only effect is that one of the two rows is
//! not collected but evicted.

use std::{io, sync::Arc};

use ::redb::TableDefinition;

use crate::store::storage::{
    Part, PartId, RecordId, SpaceId, Tally, TallyId, Usage, fields::Fields,
};
use smart_record_core::Timestamp;

/// The format version that is written. It includes the cost of a row ([`Usage::ROW`]), which is
/// part of the stored usage and tallies.
pub(super) const FORMAT: u32 = 3;
/// An earlier version that is read. A file of it becomes one of [`FORMAT`] when it is opened.
pub(super) const EARLIER_FORMAT: u32 = 2;

/// The version of the file format of redb 3 and 4.
pub(super) const REDB_FORMAT: u8 = 3;

/// A number that nobody can foretell, drawn when a file is opened. Rows that have it were written
/// since. What a row was given by others before that cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session(pub(super) [u8; 12]);

impl Session {
    /// Draws a number from the randomness of the system.
    pub(super) fn draw() -> io::Result<Self> {
        let mut session = [0; 12];
        getrandom::fill(&mut session)?;
        Ok(Self(session))
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.0.split_at(4)
    }
}

pub(super) type DueKey = [u8; 40];

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
pub(super) const DUE: TableDefinition<'static, &DueKey, ()> = TableDefinition::new("due");
pub(super) const TALLIES: TableDefinition<'static, &[u8; 16], &[u8; 20]> =
    TableDefinition::new("tallies");
pub(super) const NOTES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("notes");

/// The entries of `meta`.
pub(super) mod meta {
    pub(in crate::store::redb) const FORMAT: &str = "format";
    pub(in crate::store::redb) const OWNER: &str = "owner";
    pub(in crate::store::redb) const SESSION: &str = "session";
    pub(in crate::store::redb) const USAGE: &str = "usage";
}

/// The key of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowKey {
    bytes: [u8; 64],
    is_head: bool,
}

impl RowKey {
    pub(super) fn new(id: &PartId) -> Self {
        let mut bytes = [0; 64];
        let (record, space) = bytes.split_at_mut(32);
        record.copy_from_slice(&id.record.0);
        space.copy_from_slice(&id.space.0);
        Self { bytes, is_head: id.space == SpaceId::HEAD }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        let (record, _) = self.bytes.split_at(32);
        if self.is_head { record } else { &self.bytes }
    }

    /// The id with this key.
    pub(super) fn decode(key: &[u8]) -> Option<PartId> {
        let (record, space) = key.split_first_chunk::<32>()?;
        let record = RecordId(*record);
        match space {
            [] => Some(record.head()),
            space => Some(record.part(SpaceId(space.try_into().ok()?))),
        }
        .filter(|id| Self::new(id).as_bytes() == key)
    }
}

/// The entry of a row in the expiry index.
pub(super) fn due_key(due_at: Timestamp, id: &PartId) -> DueKey {
    let parts = [&due_at.as_millis().to_be_bytes()[..], half(&id.record.0), half(&id.space.0)];
    let mut key = [0; 40];
    for (to, from) in key.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    key
}

fn half(id: &[u8; 32]) -> &[u8] {
    id.split_at(16).0
}

/// Decodes an entry of the expiry index: the instant, and the least id with these halves.
pub(super) fn read_due_key(key: &DueKey) -> (Timestamp, PartId) {
    let (millis, id) = key.split_at(8);
    let (record, space) = id.split_at(16);
    let whole = |half: &[u8]| {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(half) {
            *to = *from;
        }
        id
    };
    let millis = millis.try_into().map(u64::from_be_bytes).unwrap_or_default();
    (Timestamp::from_millis(millis), RecordId(whole(record)).part(SpaceId(whole(space))))
}

/// Whether two ids share an entry of the expiry index.
pub(super) fn same_half(a: &[u8; 32], b: &[u8; 32]) -> bool {
    half(a) == half(b)
}

/// The flag of rows that have the rest of their session.
const SESSION: u8 = 16;

/// An encoded row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    value: Arc<[u8]>,
    header: Header,
}

/// What stands before the bytes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// `None`: of format 2.
    pub(super) session: Option<Session>,
    /// Those of a row of format 2 say nothing of when it was stored.
    fields: Fields,
    len: usize,
}

impl Header {
    /// Decodes a header without checking the row's checksum.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (_, rest) = value.split_first_chunk::<4>()?;
        let (begin, rest) = rest.split_first_chunk::<4>()?;
        let (flags, mut rest) = rest.split_first()?;
        let mut session = None;
        if flags & SESSION != 0 {
            let (end, after) = rest.split_first_chunk::<8>()?;
            session = Some(Session([&begin[..], &end[..]].concat().try_into().ok()?));
            rest = after;
        }
        let (fields, rest) = Fields::split_first(*flags, rest)?;
        let len = value.len().checked_sub(rest.len())?;
        Some(Self { session, fields, len })
    }

    pub(super) const fn due_at(&self) -> Option<Timestamp> {
        self.fields.due_at
    }

    fn part<'a>(&self, value: &'a [u8]) -> Part<'a> {
        self.fields.with(value.get(self.len..).unwrap_or_default())
    }
}

impl Row {
    /// Encodes a part as a row.
    pub(super) fn new(id: &PartId, part: &Part<'_>, session: Session) -> Self {
        let fields = Fields::of(part);
        let room = fields.len().saturating_add(17);
        let mut value = Vec::with_capacity(part.bytes.len().saturating_add(room));
        value.extend([0; 4]);
        let (begin, end) = session.parts();
        value.extend(begin);
        value.push(fields.flags() | SESSION);
        value.extend(end);
        fields.put(&mut value);
        let len = value.len();
        value.extend_from_slice(&part.bytes);
        let sum = value.split_first_chunk::<4>().map(|(_, rest)| checksum(id, rest));
        if let (Some(sum), Some((place, _))) = (sum, value.split_first_chunk_mut::<4>()) {
            *place = sum;
        }
        let header = Header { session: Some(session), fields, len };
        Self { value: value.into(), header }
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(super) const fn due_at(&self) -> Option<Timestamp> {
        self.header.due_at()
    }

    /// The length of the part's bytes.
    pub(super) fn len(&self) -> usize {
        self.value.len().saturating_sub(self.header.len)
    }

    pub(super) fn part(&self) -> Part<'_> {
        self.header.part(&self.value)
    }
}

fn checksum(id: &PartId, rest: &[u8]) -> [u8; 4] {
    sum(&[RowKey::new(id).as_bytes(), rest])
}

fn sum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

/// The session and the part in a row; `None` if the row is damaged.
pub(super) fn read_row(id: &PartId, value: &[u8]) -> Option<(Option<Session>, Part<'static>)> {
    let (stored, rest) = value.split_first_chunk::<4>()?;
    if *stored != checksum(id, rest) {
        return None;
    }
    let header = Header::decode(value)?;
    let part = header.part(value);
    Some((header.session, Part { bytes: part.bytes.into_owned().into(), ..part }))
}

/// The length of the part in a row, damaged or not.
pub(super) fn part_len(value: &[u8]) -> usize {
    Header::decode(value).map_or(0, |header| value.len().saturating_sub(header.len))
}

fn two_numbers(key: &[u8], numbers: [u64; 2]) -> [u8; 20] {
    let numbers = numbers.map(u64::to_le_bytes);
    let sum = sum(&[key, numbers.as_flattened()]);
    let mut value = [0; 20];
    for (to, from) in value.iter_mut().zip(numbers.as_flattened().iter().chain(&sum)) {
        *to = *from;
    }
    value
}

fn read_two_numbers(key: &[u8], value: &[u8]) -> Option<[u64; 2]> {
    let (a, rest) = value.split_first_chunk::<8>()?;
    let (b, _) = rest.split_first_chunk::<8>()?;
    let numbers = [u64::from_le_bytes(*a), u64::from_le_bytes(*b)];
    (two_numbers(key, numbers) == value).then_some(numbers)
}

pub(super) fn tally_value(id: &TallyId, tally: Tally) -> [u8; 20] {
    two_numbers(&id.0, [tally.count, tally.bytes])
}

pub(super) fn read_tally(id: &TallyId, value: &[u8]) -> Option<Tally> {
    read_two_numbers(&id.0, value).map(|[count, bytes]| Tally { count, bytes })
}

pub(super) fn usage_value(usage: Usage) -> [u8; 20] {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    two_numbers(meta::USAGE.as_bytes(), [number(usage.records), number(usage.bytes)])
}

pub(super) fn read_usage(value: &[u8]) -> Option<Usage> {
    let [records, bytes] = read_two_numbers(meta::USAGE.as_bytes(), value)?;
    Some(Usage { records: records.try_into().ok()?, bytes: bytes.try_into().ok()? })
}

pub(super) fn note_value(name: &[u8], note: &[u8]) -> Vec<u8> {
    [note, &sum(&[name, note])].concat()
}

pub(super) fn read_note(name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (note, stored) = value.split_last_chunk::<4>()?;
    (*stored == sum(&[name, note])).then(|| note.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(record: u8, space: u8) -> PartId {
        RecordId([record; 32]).part(SpaceId([space; 32]))
    }

    fn at(millis: u64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(millis))
    }

    #[test]
    fn keys_have_the_order_of_ids_and_read_back() {
        let mut ids = [PartId::MIN, PartId::MAX, id(1, 0), id(1, 1), id(1, 0xff), id(2, 0)];
        ids.sort();
        let keys = ids.map(|id| RowKey::new(&id).as_bytes().to_vec());
        assert!(keys.is_sorted());
        for (id, key) in ids.iter().zip(&keys) {
            assert_eq!(RowKey::decode(key), Some(*id));
        }
        // The key of a head is never that long.
        assert_eq!(RowKey::decode(&[0; 64]), None);
        assert_eq!(RowKey::decode(&[1; 63]), None);
    }

    #[test]
    fn every_damage_to_a_row_is_found() {
        for (due_at, expires_at) in
            [(None, None), (at(1), None), (None, at(2)), (at(3), at(3)), (at(4), at(u64::MAX))]
        {
            let stored_at = Timestamp::from_millis(9);
            let digest = due_at.map(|_| [7; 32]);
            let part = Part { bytes: b"bytes".into(), due_at, expires_at, stored_at, digest };
            let session = Session::draw().unwrap();
            let row = Row::new(&id(1, 2), &part, session);
            assert_eq!(row.part(), part);
            assert_eq!((row.len(), part_len(row.value())), (5, 5));
            assert_eq!(read_row(&id(1, 2), row.value()), Some((Some(session), part.clone())));
            assert_eq!(read_row(&id(1, 3), row.value()), None, "in another's place");
            for at in 0..row.value().len() {
                for bit in 0..8 {
                    let mut damaged = row.value().to_vec();
                    damaged[at] ^= 1 << bit;
                    assert_eq!(read_row(&id(1, 2), &damaged), None, "{at}.{bit}");
                }
                assert_eq!(read_row(&id(1, 2), &row.value()[..at]), None);
            }
        }
    }

    #[test]
    fn a_row_of_format_2_is_read_and_is_of_no_session() {
        let part = Part {
            bytes: b"bytes".into(),
            due_at: at(1),
            expires_at: at(2),
            stored_at: Timestamp::EPOCH,
            digest: None,
        };
        let mut value = vec![0; 4];
        value.extend(7_u32.to_le_bytes());
        // Of the flags, `due at` and `expires at`.
        value.push(1 | 2);
        value.extend(1_u64.to_le_bytes());
        value.extend(2_u64.to_le_bytes());
        value.extend(b"bytes");
        let sum = checksum(&id(1, 2), &value[4..]);
        value[..4].copy_from_slice(&sum);
        assert_eq!(read_row(&id(1, 2), &value), Some((None, part)));
        assert_eq!(part_len(&value), 5);
    }

    #[test]
    fn no_session_is_like_another() {
        assert_ne!(Session::draw().unwrap(), Session::draw().unwrap());
    }

    #[test]
    fn numbers_and_notes_have_checksums() {
        let (tally, of) = (Tally { count: 1, bytes: 2 }, TallyId([3; 16]));
        let mut value = tally_value(&of, tally);
        assert_eq!(read_tally(&of, &value), Some(tally));
        assert_eq!(read_tally(&TallyId([4; 16]), &value), None);
        value[8] ^= 1;
        assert_eq!(read_tally(&of, &value), None);
        let usage = Usage { records: 1, bytes: 2 };
        assert_eq!(read_usage(&usage_value(usage)), Some(usage));
        let mut note = note_value(b"name", b"note");
        assert_eq!(read_note(b"name", &note).unwrap(), b"note");
        assert_eq!(read_note(b"other", &note), None);
        note[0] ^= 1;
        assert_eq!(read_note(b"name", &note), None);
    }

    #[test]
    fn the_index_is_ordered_by_time_and_holds_halves() {
        let (a, b) = (
            due_key(Timestamp::from_millis(255), &id(9, 9)),
            due_key(Timestamp::from_millis(256), &id(1, 1)),
        );
        assert!(a < b);
        let (due_at, least) = read_due_key(&b);
        assert_eq!(due_at.as_millis(), 256);
        assert!(least <= id(1, 1) && same_half(&least.record.0, &[1; 32]));
    }
}
