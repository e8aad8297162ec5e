//! Recent repairs, to limit repairs of peers that do not take them.
//!
//! **Invariants.** Pure. A peer has taken a repair if it shows what it was sent, or newer. One that
//! has not is repaired again only after a delay, which doubles, however its answers vary. The
//! number of remembered repairs is bounded, and so are the spaces in them as a whole. Of each
//! repair all of it is remembered, or nothing: a peer would only show the remembered part.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use hashlink::LruCache;
use libp2p_identity::PeerId;

use crate::query::CheckedAnswer;
use smart_record_core::{RecordKey, SmartRecord, Timestamp};

/// Maximum number of remembered repairs: some 600 KB. A guess.
const REMEMBERED: usize = 4_096;
/// Maximum number of spaces in all remembered repairs: some 8 MB. 64 of each, or those of 256
/// boards of 1,024 writers. A guess.
const SPACES: usize = 64 * REMEMBERED;
/// Delay before a second repair of the same peer: as long as a repair may take to arrive. A guess.
const SHORTEST: Duration = Duration::from_secs(10);
/// Maximum delay. Less than the replication interval, so that each replication may repair.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A summary of a record: the sequence of the newest update of each space and the number of its
/// updates, or the hash of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Spaces(BTreeMap<u64, (u64, usize)>),
    Value(u64),
}

impl Content {
    fn of(answer: &CheckedAnswer, hasher: &RandomState) -> Self {
        match answer {
            CheckedAnswer::Record(record) => Self::of_record(record, hasher),
            CheckedAnswer::Value(_) => Self::Value(answer.fingerprint()),
        }
    }

    fn of_record(record: &SmartRecord, hasher: &RandomState) -> Self {
        let spaces = record.spaces().filter_map(|(writer, space)| {
            let id = hasher.hash_one(writer.as_bytes());
            Some((id, (space.newest()?.seq.as_micros(), space.updates().len())))
        });
        Self::Spaces(spaces.collect())
    }

    /// The part of this that a peer lacks, by what it has `shown`. Content that is not in a slice
    /// may still be there.
    fn lacking(&self, shown: Option<&Self>, is_slice: bool) -> Self {
        match (self, shown) {
            (Self::Spaces(known), Some(Self::Spaces(shown))) => {
                let lacks = known.iter().filter(|(space, known)| match shown.get(space) {
                    Some(shown) => shown < *known,
                    None => !is_slice,
                });
                Self::Spaces(lacks.map(|(space, known)| (*space, *known)).collect())
            }
            _ => self.clone(),
        }
    }

    /// Whether a peer has all of this, by what it has `shown`.
    fn is_in(&self, shown: Option<&Self>, is_slice: bool) -> bool {
        match self.lacking(shown, is_slice) {
            Self::Spaces(lacks) => lacks.is_empty(),
            Self::Value(_) => shown == Some(self),
        }
    }

    /// Forgets what is not known any more, because it has expired.
    fn forget_beyond(&mut self, known: &Self) {
        if let (Self::Spaces(sent), Self::Spaces(known)) = (self, known) {
            sent.retain(|space, _| known.contains_key(space));
        }
    }

    /// Adds what was sent later.
    fn extend(&mut self, later: Self) {
        match (self, later) {
            (Self::Spaces(sent), Self::Spaces(later)) => sent.extend(later),
            (sent, later) => *sent = later,
        }
    }

    fn spaces(&self) -> usize {
        match self {
            Self::Spaces(spaces) => spaces.len(),
            Self::Value(_) => 0,
        }
    }
}

/// The repairs that a peer was sent.
#[derive(Clone, Debug)]
struct Repaired {
    sent: Content,
    at: Timestamp,
    wait: Duration,
}

/// The most recent repairs.
#[derive(Debug)]
pub(super) struct Repairs {
    recent: LruCache<(RecordKey, PeerId), Repaired>,
    /// Number of spaces in them.
    spaces: usize,
    /// Nobody can make writers whose ids are equal.
    hasher: RandomState,
}

impl Repairs {
    pub(super) fn new() -> Self {
        Self { recent: LruCache::new(REMEMBERED), spaces: 0, hasher: RandomState::new() }
    }

    /// The summary of an answer, or of the known content.
    pub(super) fn content(&self, answer: &CheckedAnswer) -> Content {
        Content::of(answer, &self.hasher)
    }

    /// Whether a peer may be repaired now, by what it has shown (perhaps a slice) of what is
    /// `known`. If so, remembers the repair.
    pub(super) fn admit(
        &mut self,
        key: &RecordKey,
        peer: PeerId,
        known: &Content,
        shown: Option<&Content>,
        is_slice: bool,
        now: Timestamp,
    ) -> bool {
        let place = (key.clone(), peer);
        let lacks = known.lacking(shown, is_slice);
        let Some(last) = self.recent.get_mut(&place) else {
            self.remember(place, Repaired { sent: lacks, at: now, wait: SHORTEST });
            return true;
        };
        let before = last.sent.spaces();
        last.sent.forget_beyond(known);
        self.spaces = self.spaces.saturating_sub(before).saturating_add(last.sent.spaces());
        let has_taken = last.sent.is_in(shown, is_slice);
        // A time before the last repair means that the clock was set back.
        if !has_taken && now < last.at.saturating_add(last.wait) && now >= last.at {
            return false;
        }
        let wait = if has_taken { SHORTEST } else { last.wait.saturating_mul(2).min(LONGEST) };
        if let Some(Repaired { mut sent, .. }) = self.forget(&place) {
            sent.extend(lacks);
            self.remember(place, Repaired { sent, at: now, wait });
        }
        true
    }

    fn forget(&mut self, place: &(RecordKey, PeerId)) -> Option<Repaired> {
        let repaired = self.recent.remove(place)?;
        self.spaces = self.spaces.saturating_sub(repaired.sent.spaces());
        Some(repaired)
    }

    /// Remembers a repair, as the most recent one, instead of the least recent ones.
    fn remember(&mut self, place: (RecordKey, PeerId), repaired: Repaired) {
        let spaces = repaired.sent.spaces();
        while self.recent.len() >= REMEMBERED || self.spaces.saturating_add(spaces) > SPACES {
            let Some((_, oldest)) = self.recent.remove_lru() else {
                break;
            };
            self.spaces = self.spaces.saturating_sub(oldest.sent.spaces());
        }
        self.spaces = self.spaces.saturating_add(spaces);
        self.recent.insert(place, repaired);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn at(second: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(second))
    }

    fn spaces(spaces: impl IntoIterator<Item = (u64, u64)>) -> Content {
        Content::Spaces(spaces.into_iter().map(|(space, seq)| (space, (seq, 1))).collect())
    }

    #[test]
    fn a_peer_that_takes_no_repair_is_repaired_with_growing_delays_however_it_answers() {
        let day = 24 * 3_600_u64;
        // It is read every second for a day, and the record differs each time.
        let of = |shown: &dyn Fn(u64) -> Option<Content>| -> Vec<_> {
            let (mut repairs, key, peer) =
                (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
            let sent = (0..day).filter(|second| {
                let known = spaces([(1, second + 1), (2, 1), (3, 1), (4, 1)]);
                let shown = shown(*second);
                repairs.admit(&key, peer, &known, shown.as_ref(), false, at(*second))
            });
            sent.collect()
        };
        let nothing = of(&|_| None);
        assert_eq!(nothing[..4], [0, 10, 30, 70]);
        assert!(nothing.len() < 60, "{}", nothing.len());
        let gaps = nothing.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(gaps.max(), Some(LONGEST.as_secs()));
        // The same, another thing each time, or in turns what it was sent before.
        let old = of(&|_| Some(spaces([(1, 0)])));
        let varying = of(&|second| Some(spaces([(1, 0), (2 + second % 3, 1)])));
        let turns = of(&|second| {
            let half = [[(1, second), (2, 1)], [(3, 1), (4, 1)]][second as usize % 2];
            Some(spaces(half))
        });
        let older = of(&|second| Some(spaces([(1, second / 2), (2, 1), (3, 1), (4, 1)])));
        for repairs in [old, varying, turns, older] {
            // It has taken a few by chance.
            assert!(repairs.len() <= nothing.len() + 5, "{}: {:?}", repairs.len(), &repairs[..9]);
        }
    }

    #[test]
    fn values_are_taken_if_they_are_shown() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/v/a"), PeerId::random());
        let mut admit = |known, shown: Option<u64>, second| {
            let shown = shown.map(Content::Value);
            repairs.admit(&key, peer, &Content::Value(known), shown.as_ref(), false, at(second))
        };
        assert!(admit(1, None, 0));
        assert!(!admit(1, None, 1) && !admit(1, Some(7), 2) && !admit(2, Some(8), 3));
        assert!(admit(2, Some(1), 4), "it has taken the first");
        assert!(!admit(2, Some(1), 5));
    }

    #[test]
    fn a_peer_that_took_a_repair_is_repaired_again_at_once() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        let mut admit = |known, shown, is_slice| {
            let (known, shown) = (spaces([(1, known), (2, 1)]), spaces(shown));
            repairs.admit(&key, peer, &known, Some(&shown), is_slice, NOW)
        };
        for n in 1..100 {
            assert!(admit(n + 1, vec![(1, n), (2, 1)], false));
            assert!(!admit(n + 1, vec![(1, n), (2, 1)], false), "it answers as before");
            assert!(!admit(n + 2, vec![(1, n), (2, 1)], false), "it lacks the same as before");
        }
        // What a slice does not show may be there.
        assert!(admit(102, vec![(1, 101)], true));
        assert!(!admit(102, vec![(1, 101)], true));
        // What has expired since is not looked for.
        let other = PeerId::random();
        assert!(repairs.admit(&key, other, &spaces([(1, 1), (2, 1)]), None, false, NOW));
        let (known, shown) = (spaces([(1, 2)]), spaces([(1, 1)]));
        assert!(repairs.admit(&key, other, &known, Some(&shown), false, NOW));
    }

    #[test]
    fn peers_are_independent_and_a_clock_may_be_set_back() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        let known = spaces([(1, 1)]);
        assert!(repairs.admit(&key, peer, &known, None, false, at(100)));
        assert!(!repairs.admit(&key, peer, &known, None, false, at(101)));
        assert!(repairs.admit(&key, PeerId::random(), &known, None, false, at(101)));
        assert!(repairs.admit(&key, peer, &known, None, false, NOW), "the clock was set back");
    }

    #[test]
    fn the_number_of_remembered_repairs_is_bounded() {
        let mut repairs = Repairs::new();
        let known = spaces((0..1_000).map(|space| (space, 1)));
        for _ in 0..2 * REMEMBERED {
            assert!(repairs.admit(&"/sr/a".into(), PeerId::random(), &known, None, false, NOW));
        }
        let spaces = |repairs: &Repairs| -> usize {
            repairs.recent.iter().map(|(_, repaired)| repaired.sent.spaces()).sum()
        };
        assert_eq!(repairs.recent.len(), SPACES / 1_000);
        assert_eq!([spaces(&repairs), repairs.spaces], [SPACES / 1_000 * 1_000; 2]);
        let one = self::spaces([(0, 1)]);
        for _ in 0..2 * REMEMBERED {
            let key = "/sr/a".into();
            assert!(repairs.admit(&key, PeerId::random(), &one, None, false, NOW));
        }
        assert_eq!((repairs.recent.len(), repairs.spaces), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn a_holder_that_shows_a_part_of_a_board_is_not_repaired_at_every_read() {
        // All parts of 64 spaces, and in turns the first and the last 136 of 200.
        let known = spaces((0..200).map(|space| (space, 1)));
        let parts = (0..200).map(|from| (from..from + 64).map(|space| space % 200).collect());
        let turns = [(0..136).collect(), (64..200).collect()];
        for shown in [parts.collect::<Vec<Vec<u64>>>(), turns.into()] {
            let (mut repairs, key, peer) =
                (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
            let admitted = (0..3_600).filter(|second| {
                let part = &shown[*second as usize % shown.len()];
                let shown = spaces(part.iter().map(|space| (*space, 1)));
                repairs.admit(&key, peer, &known, Some(&shown), false, at(*second))
            });
            let admitted = admitted.count();
            assert!(admitted < 20, "{admitted}");
        }
    }
}
