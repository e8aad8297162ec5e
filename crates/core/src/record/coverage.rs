//! Coverage: which part of a record an answer shows, as its holder says.
//!
//! The *place* of a space is the first eight bytes of its rank, as a big-endian number. All places
//! form a ring: 0 comes after 2⁶⁴ − 1. An answer covers *arcs* of it: of each space in them it has
//! all that its holder gives out. [`Coverage`] is what one answer says, [`Arcs`] what several
//! answers have covered together.
//!
//! **Invariants.** Pure. Coverage is unsigned: it steers reading and repairs, and proves nothing.
//! It is a field of answers only, which everyone who stores or joins a record ignores. Decoding is
//! bounded: a coverage of more than [`Coverage::MAX_BYTES`] or in another form counts as none. The
//! arcs of [`Arcs`] are in ascending order, disjoint and not adjacent.
//!
//! **Spec.** `docs/wire.md`, section "Coverage".

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{SmartRecord, space::Space};
use crate::{
    proto::smart_record as proto,
    protobuf::{Fields, put_field},
    time::Timestamp,
};

/// The field of an answer that has its coverage, and the one that says for whom it is.
const COVERAGE: u32 = 2;
const ASKER: u32 = 3;
/// The bytes of an arc.
const ARC: usize = 16;
/// The number of places.
const RING: u128 = 1 << 64;

/// An arc of the ring of places: from the first to the last, both included. If the first is greater
/// than the last, it leads over the end of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RingArc {
    /// The first place.
    pub first: u64,
    /// The last place.
    pub last: u64,
}

impl RingArc {
    /// The whole ring.
    pub const RING: Self = Self { first: 0, last: u64::MAX };

    /// The place of a space with this rank.
    pub const fn place(rank: &[u8; 32]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *rank;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The coverage that an answer states: the arcs that it shows whole, and a digest of all that its
/// holder gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    arcs: Vec<RingArc>,
    /// How many spaces the holder gives out.
    pub spaces: u32,
    /// The [`SmartRecord::digest`] of all that the holder gives out.
    pub digest: [u8; 32],
}

impl Coverage {
    /// Maximum number of arcs.
    pub const MAX_ARCS: usize = 8;
    /// Maximum size as a field of an answer, tag and length included.
    pub const MAX_BYTES: usize = 3 + 2 + 1 + Self::MAX_ARCS * ARC + 6 + 2 + 32;

    /// The coverage of an answer that shows these arcs whole. Arcs beyond
    /// [`MAX_ARCS`](Self::MAX_ARCS) are left out.
    pub fn new(arcs: impl IntoIterator<Item = RingArc>, spaces: u32, digest: [u8; 32]) -> Self {
        Self { arcs: arcs.into_iter().take(Self::MAX_ARCS).collect(), spaces, digest }
    }

    /// The arcs.
    pub fn arcs(&self) -> &[RingArc] {
        &self.arcs
    }

    /// Appends the coverage to an encoded answer.
    pub fn append_to(&self, answer: &mut Vec<u8>) {
        let mut arcs = Vec::with_capacity(self.arcs.len().saturating_mul(ARC));
        for end in self.arcs.iter().flat_map(|arc| [arc.first, arc.last]) {
            arcs.extend_from_slice(&end.to_be_bytes());
        }
        let wire = proto::Coverage {
            arcs: arcs.into(),
            spaces: self.spaces,
            digest: Bytes::copy_from_slice(&self.digest),
        };
        prost::encoding::message::encode(COVERAGE, &wire, answer);
    }

    /// The coverage of an encoded answer: the last one, if there are several. `None` if there is
    /// none in canonical form, or if the answer has fields of another wire type.
    pub fn of_answer(answer: &[u8]) -> Option<Self> {
        let coverage = Fields(answer).filter(|(tag, _)| *tag == COVERAGE).last();
        coverage.and_then(|(_, bytes)| Self::decode(bytes))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return None;
        }
        let wire = proto::Coverage::decode(bytes).ok()?;
        let (arcs, rest) = wire.arcs.as_chunks::<ARC>();
        let is_good = rest.is_empty() && arcs.len() <= Self::MAX_ARCS;
        if !is_good || wire.encode_to_vec() != bytes {
            return None;
        }
        let number =
            |[a, b, c, d, e, f, g, h]: [u8; 8]| u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let arcs = arcs.iter().map(|arc| {
            let [a, b, c, d, e, f, g, h, rest @ ..] = *arc;
            RingArc { first: number([a, b, c, d, e, f, g, h]), last: number(rest) }
        });
        let digest = <[u8; 32]>::try_from(&wire.digest[..]).ok()?;
        Some(Self { arcs: arcs.collect(), spaces: wire.spaces, digest })
    }
}

/// Says for whom an answer is: the first two bytes of the SHA-256 of a peer id. Whoever puts an
/// answer somewhere as it is, with the coverage of its holder, puts there what was for itself. Two
/// bytes are enough to tell that, and too few to say who it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskerTag([u8; 2]);

impl AskerTag {
    /// Size as a field of an answer, tag and length included.
    pub const BYTES: usize = 4;

    /// The tag of the answers for a peer.
    pub fn of(asker: &PeerId) -> Self {
        let [a, b, ..]: [u8; 32] = Sha256::digest(asker.to_bytes()).into();
        Self([a, b])
    }

    /// The two bytes.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0
    }

    /// Appends the tag to an encoded answer.
    pub fn append_to(self, answer: &mut Vec<u8>) {
        put_field(ASKER, &self.0, answer);
    }

    /// The tag of an encoded answer: the last one, if there are several. `None` if it does not have
    /// two bytes, or there is none.
    pub fn of_answer(answer: &[u8]) -> Option<Self> {
        let tag = Fields(answer).filter(|(tag, _)| *tag == ASKER).last();
        tag.and_then(|(_, bytes)| bytes.try_into().ok()).map(Self)
    }
}

/// A set of places, as arcs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Arcs(Vec<(u64, u64)>);

impl Arcs {
    /// No place.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// All places.
    pub fn ring() -> Self {
        Self(vec![(0, u64::MAX)])
    }

    /// Whether all places are in it.
    pub fn is_ring(&self) -> bool {
        self.0 == [(0, u64::MAX)]
    }

    /// Whether a place is in it.
    pub fn has(&self, place: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= place);
        let arc = after.checked_sub(1).and_then(|at| self.0.get(at));
        arc.is_some_and(|(_, last)| place <= *last)
    }

    /// The share of the ring that is in it, from 0 to 1, rounded.
    pub fn share(&self) -> f64 {
        of_ring(self.places())
    }

    /// The share of the ring that is not in it, from 0 to 1: 0 only if this [is the
    /// ring](Self::is_ring).
    pub fn rest(&self) -> f64 {
        of_ring(RING.saturating_sub(self.places()))
    }

    /// The number of places.
    fn places(&self) -> u128 {
        let lens = self.0.iter().map(|(first, last)| last.saturating_sub(*first));
        // Each arc has one place more than the difference.
        lens.fold(0, |sum: u128, len| sum.saturating_add(len.into()).saturating_add(1))
    }

    /// Adds arcs.
    pub fn add(&mut self, arcs: impl IntoIterator<Item = RingArc>) {
        for RingArc { first, last } in arcs {
            if first <= last {
                self.0.push((first, last));
            } else {
                self.0.extend([(first, u64::MAX), (0, last)]);
            }
        }
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    /// The places that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::shared([self, other], 2)
    }

    /// The places that are in `n` of the sets or more.
    pub fn shared<'a>(sets: impl IntoIterator<Item = &'a Self>, n: usize) -> Self {
        if n == 0 {
            return Self::ring();
        }
        // Where an arc begins, and where one has ended.
        let mut ends = Vec::new();
        for (first, last) in sets.into_iter().flat_map(|set| &set.0) {
            ends.push((u128::from(*first), true));
            ends.push((u128::from(*last).saturating_add(1), false));
        }
        // At one place, arcs end before others begin; adjacent ones are joined below.
        ends.sort_unstable();
        let (mut depth, mut since) = (0_usize, None);
        let mut shared = Self::new();
        let mut arcs = Vec::new();
        for (at, begins) in ends {
            depth = if begins { depth.saturating_add(1) } else { depth.saturating_sub(1) };
            match since {
                None if depth >= n => since = Some(at),
                Some(first) if depth < n => {
                    if let (Ok(first), Ok(last)) =
                        (u64::try_from(first), u64::try_from(at.saturating_sub(1)))
                        && first <= last
                    {
                        arcs.push(RingArc { first, last });
                    }
                    since = None;
                }
                _ => {}
            }
        }
        shared.add(arcs);
        shared
    }
}

/// A number of places as a share of the ring.
fn of_ring(places: u128) -> f64 {
    places as f64 / RING as f64
}

impl SmartRecord {
    /// Digest of the updates that are retained at `now`: replicas that hold the same have the same.
    /// The spaces' [digests](Space::digest) in ascending order of rank, hashed. Costs a hash for
    /// each space and each update.
    pub fn digest(&self, now: Timestamp) -> [u8; 32] {
        let ranked = self.spaces().map(|(writer, space)| (writer.rank(self.key()), space));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        Self::digest_of(ranked.iter().filter_map(|(rank, space)| space.digest(rank, now)))
    }

    /// The digest of a record from the [digests](Space::digest) of its spaces, in ascending order
    /// of rank.
    pub fn digest_of(spaces: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
        let mut hash = Sha256::new();
        spaces.into_iter().for_each(|digest| hash.update(digest));
        hash.finalize().into()
    }
}

impl Space {
    /// Digest of the space's rank and of the positions of its updates that are retained at `now`.
    /// `None` if there are none. Signatures do not count.
    pub fn digest(&self, rank: &[u8; 32], now: Timestamp) -> Option<[u8; 32]> {
        let mut hash = Sha256::new().chain_update(rank);
        let mut is_empty = true;
        for update in self.updates().filter(|update| update.retain_until() > now) {
            let position = update.position();
            hash.update(position.seq.as_micros().to_be_bytes());
            hash.update(position.hash);
            is_empty = false;
        }
        (!is_empty).then(|| hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = u64::MAX;

    fn arcs<const N: usize>(arcs: [(u64, u64); N]) -> Arcs {
        let mut all = Arcs::new();
        all.add(arcs.map(|(first, last)| RingArc { first, last }));
        all
    }

    #[test]
    fn arcs_join_where_they_touch_and_lead_over_the_end() {
        assert_eq!(arcs([(5, 9), (1, 3), (4, 4)]), arcs([(1, 9)]));
        assert_eq!(arcs([(5, 9), (1, 3)]).0, [(1, 3), (5, 9)]);
        assert_eq!(arcs([(8, 2)]).0, [(0, 2), (8, END)]);
        assert!(arcs([(8, 7)]).is_ring() && arcs([(0, END)]).is_ring());
        assert!(arcs([(0, 5), (6, END - 1), (END, END)]).is_ring());
        let over = arcs([(8, 2)]);
        assert!([0, 2, 8, END].iter().all(|place| over.has(*place)));
        assert!([3, 7].iter().all(|place| !over.has(*place)));
        assert_eq!((Arcs::ring().share(), Arcs::new().share()), (1.0, 0.0));
        assert_eq!((arcs([(0, END / 2)]).share(), arcs([(0, END / 2)]).rest()), (0.5, 0.5));
        let but_one = arcs([(8, 6)]);
        assert!(but_one.rest() > 0.0 && !but_one.is_ring() && Arcs::ring().rest() == 0.0);
    }

    #[test]
    fn an_answer_says_for_whom_it_is() {
        let [asker, other] = [(); 2].map(|()| AskerTag::of(&PeerId::random()));
        let mut answer = Vec::new();
        let coverage = Coverage::new([RingArc::RING], 7, [1; 32]);
        coverage.append_to(&mut answer);
        assert_eq!(AskerTag::of_answer(&answer), None);
        other.append_to(&mut answer);
        let len = answer.len();
        asker.append_to(&mut answer);
        assert_eq!(answer.len(), len + AskerTag::BYTES);
        assert_eq!(AskerTag::of_answer(&answer), Some(asker), "the last one");
        assert_eq!(Coverage::of_answer(&answer), Some(coverage));
        for other in [&[0x1a, 1, 9][..], &[0x1a, 3, 9, 9, 9], &[0x18, 9], &[0x1a, 9]] {
            assert_eq!(AskerTag::of_answer(other), None);
        }
    }

    #[test]
    fn a_coverage_in_another_form_counts_as_none() {
        let good = Coverage::new([RingArc { first: 3, last: 9 }, RingArc::RING], 7, [1; 32]);
        let encoded = |coverage: &Coverage| {
            let mut answer = Vec::new();
            coverage.append_to(&mut answer);
            answer
        };
        assert_eq!(Coverage::of_answer(&encoded(&good)), Some(good.clone()));
        let least = Coverage::new([], 0, [0; 32]);
        assert_eq!(Coverage::of_answer(&encoded(&least)), Some(least));
        let most = Coverage::new([RingArc { first: 9, last: 3 }; 10], u32::MAX, [1; 32]);
        assert_eq!(most.arcs().len(), Coverage::MAX_ARCS);
        assert_eq!(encoded(&most).len(), Coverage::MAX_BYTES);
        assert_eq!(Coverage::of_answer(&encoded(&most)), Some(most));
        let wire = |arcs: usize, digest: usize| {
            let wire = proto::Coverage {
                arcs: vec![1; arcs].into(),
                spaces: 1,
                digest: vec![1; digest].into(),
            };
            let mut answer = Vec::new();
            prost::encoding::message::encode(COVERAGE, &wire, &mut answer);
            answer
        };
        assert!(Coverage::of_answer(&wire(16, 32)).is_some());
        for (arcs, digest) in [(15, 32), (17, 32), (9 * 16, 32), (16, 0), (16, 31), (16, 33)] {
            assert_eq!(Coverage::of_answer(&wire(arcs, digest)), None, "{arcs} {digest}");
        }
        // Unknown fields, padding, and bytes that are no message.
        let mut padded = encoded(&good);
        padded.extend([0x18, 0]);
        assert_eq!(Coverage::of_answer(&padded), Some(good.clone()), "after the coverage");
        assert_eq!(Coverage::of_answer(&[0x12, 2, 0x18, 0]), None);
        assert_eq!(Coverage::of_answer(&[0x12, 1, 0xff]), None);
        assert_eq!(Coverage::of_answer(&[]), None);
        // The last one counts.
        let twice = [encoded(&Coverage::new([], 1, [2; 32])), encoded(&good)].concat();
        assert_eq!(Coverage::of_answer(&twice), Some(good));
    }
}
