//! The rows of one record, in order.
//!
//! **Invariants.** A head and a single space take one allocation together, because most records
//! have one writer.
//!
//! **Spec.** `docs/design.md`, section "Store".

use std::collections::{BTreeMap, btree_map};

use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use crate::store::storage::{Part, SpaceId, fields::Fields};

/// The rows of one record.
pub(super) enum Rows {
    /// At most a head and one space.
    Few(Piece),
    Many(Box<Many>),
}

/// At most a head and one space, in one piece: the length of the head's row, a varint, that row,
/// and the id and the row of the space.
#[derive(Default)]
pub(super) struct Piece(Box<[u8]>);

pub(super) struct Many {
    head: Option<Row>,
    spaces: BTreeMap<SpaceId, Row>,
}

/// A part in one piece: its flags, [`Fields`] and bytes.
struct Row(Box<[u8]>);

impl Row {
    fn new(part: &Part<'_>) -> Self {
        let fields = Fields::of(part);
        let len = part.bytes.len().saturating_add(fields.len()).saturating_add(1);
        // Exactly as much as is needed: giving the rest back would leave holes.
        let mut row = Vec::with_capacity(len);
        row.push(fields.flags());
        fields.put(&mut row);
        row.extend_from_slice(&part.bytes);
        Self(row.into_boxed_slice())
    }

    fn copied(row: &[u8]) -> Self {
        Self(row.into())
    }
}

/// A space and its row.
type Space<'a> = (SpaceId, &'a [u8]);

/// The part in a row.
fn part(row: &[u8]) -> Part<'_> {
    let of_flags = |(flags, rest): (&u8, _)| Fields::split_first(*flags, rest);
    // It was encoded here, so decoding cannot fail.
    let empty = (Fields::default(), &[][..]);
    let (fields, bytes) = row.split_first().and_then(of_flags).unwrap_or(empty);
    fields.with(bytes)
}

impl Piece {
    fn new(head: Option<&[u8]>, space: Option<Space<'_>>) -> Self {
        let head = head.unwrap_or_default();
        let head_len = u64::try_from(head.len()).unwrap_or(u64::MAX);
        let (id, space) = space.as_ref().map_or((&[][..], &[][..]), |(id, row)| (&id.0, row));
        let len = [encoded_len_varint(head_len), head.len(), id.len(), space.len()];
        let mut piece = Vec::with_capacity(len.into_iter().fold(0, usize::saturating_add));
        encode_varint(head_len, &mut piece);
        [head, id, space].into_iter().for_each(|bytes| piece.extend_from_slice(bytes));
        Self(piece.into_boxed_slice())
    }

    /// The row of the head, and the space.
    fn rows(&self) -> (Option<&[u8]>, Option<Space<'_>>) {
        let mut rest = &self.0[..];
        let len = decode_varint(&mut rest).ok().and_then(|len| usize::try_from(len).ok());
        let (head, rest) = len.and_then(|len| rest.split_at_checked(len)).unwrap_or_default();
        let space = rest.split_first_chunk().map(|(id, row)| (SpaceId(*id), row));
        // A row has at least its flags.
        (Some(head).filter(|head| !head.is_empty()), space)
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self::Few(Piece::default())
    }
}

impl Rows {
    pub(super) fn get(&self, id: &SpaceId) -> Option<Part<'_>> {
        let row = match self {
            Self::Few(piece) => match (*id, piece.rows()) {
                (SpaceId::HEAD, (head, _)) => head,
                (_, (_, space)) => space.filter(|(space, _)| space == id).map(|(_, row)| row),
            },
            Self::Many(many) => match *id {
                SpaceId::HEAD => many.head.as_ref().map(|row| &*row.0),
                _ => many.spaces.get(id).map(|row| &*row.0),
            },
        };
        row.map(part)
    }

    /// Inserts a row, or replaces it.
    pub(super) fn set(&mut self, id: SpaceId, part: &Part<'_>) {
        let row = Row::new(part);
        match self {
            Self::Few(piece) => match (id, piece.rows()) {
                (SpaceId::HEAD, (_, space)) => *piece = Piece::new(Some(&row.0), space),
                (_, (head, Some((first, of_first)))) if first != id => {
                    let [head, of_first] = [head, Some(of_first)].map(|row| row.map(Row::copied));
                    let spaces = of_first.map(|row| (first, row)).into_iter().chain([(id, row)]);
                    *self = Self::Many(Box::new(Many { head, spaces: spaces.collect() }));
                }
                (_, (head, _)) => *piece = Piece::new(head, Some((id, &row.0))),
            },
            Self::Many(many) if id == SpaceId::HEAD => many.head = Some(row),
            Self::Many(many) => drop(many.spaces.insert(id, row)),
        }
    }

    /// Removes a row, if it exists.
    pub(super) fn remove(&mut self, id: &SpaceId) {
        match self {
            Self::Few(piece) => {
                let (head, space) = piece.rows();
                let head = head.filter(|_| *id != SpaceId::HEAD);
                *piece = Piece::new(head, space.filter(|(space, _)| space != id));
            }
            Self::Many(many) if *id == SpaceId::HEAD => many.head = None,
            Self::Many(many) => {
                many.spaces.remove(id);
                if many.spaces.len() <= 1 {
                    let space = many.spaces.first_key_value().map(|(id, row)| (*id, &*row.0));
                    let head = many.head.as_ref().map(|row| &*row.0);
                    *self = Self::Few(Piece::new(head, space));
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.range(SpaceId::HEAD).next().is_none()
    }

    /// The rows from `from` on, in ascending order.
    pub(super) fn range(&self, from: SpaceId) -> Range<'_> {
        let (head, one, many) = match self {
            Self::Few(piece) => {
                let (head, space) = piece.rows();
                (head, space.filter(|(id, _)| *id >= from), None)
            }
            Self::Many(many) => {
                let head = many.head.as_ref().map(|row| &*row.0);
                // Without a bound, no keys are compared.
                let all = from == SpaceId::HEAD;
                let spaces = if all { many.spaces.range(..) } else { many.spaces.range(from..) };
                (head, None, Some(spaces))
            }
        };
        Range { head: head.filter(|_| from == SpaceId::HEAD), one, many }
    }

    /// The last id at or before `up_to`.
    pub(super) fn last(&self, up_to: &SpaceId) -> Option<SpaceId> {
        let (has_head, space) = match self {
            Self::Few(piece) => {
                let (head, space) = piece.rows();
                (head.is_some(), space.map(|(id, _)| id).filter(|id| id <= up_to))
            }
            Self::Many(many) => {
                let space = many.spaces.range(..=up_to).next_back();
                (many.head.is_some(), space.map(|(id, _)| *id))
            }
        };
        space.or(has_head.then_some(SpaceId::HEAD))
    }
}

/// Rows of a record in ascending order.
pub(super) struct Range<'a> {
    head: Option<&'a [u8]>,
    one: Option<Space<'a>>,
    many: Option<btree_map::Range<'a, SpaceId, Row>>,
}

impl<'a> Iterator for Range<'a> {
    type Item = (SpaceId, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(head) = self.head.take() {
            return Some((SpaceId::HEAD, part(head)));
        }
        let space = match &mut self.many {
            Some(many) => many.next().map(|(id, row)| (*id, &*row.0)),
            None => self.one.take(),
        };
        space.map(|(id, row)| (id, part(row)))
    }
}
