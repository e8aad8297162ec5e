//! Coverage claimed by the holders of a record, and whether it makes a reading complete.
//!
//! **Invariants.** Pure. A claim proves nothing: a false one counts as one of the holders that have
//! covered a place, and no more. Silence, refusals and holders without a claim cover nothing. A
//! peer without a record covers the ring, and replaces no holder: a holder that has claimed to have
//! a record has to show it, unless it claims more than it shows. A holder that is not among the
//! closest peers may be behind, so it covers nothing for them. The number of arcs is bounded by the
//! number of answers.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Complete".

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use libp2p_identity::PeerId;
use smart_record_core::{Arcs, Coverage};

/// The coverage that one holder has stated in all of its answers.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The arcs that it has covered.
    pub(crate) arcs: Arcs,
    /// How many spaces it has, by its last answer.
    pub(crate) spaces: u32,
    /// The digest of all that it has, by its last answer.
    digest: [u8; 32],
    /// Number of answers in a row that showed nothing that it had not shown before.
    idle: usize,
    /// Whether it claims more than it shows.
    overclaims: bool,
    /// Whether it did not answer when it was asked again.
    is_silent: bool,
    /// Number of times that it was asked.
    asked: usize,
}

/// The claims of all holders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(BTreeMap<PeerId, Claim>);

impl Claims {
    /// Adds what an answer says. `is_new`: whether the answer shows something that its holder has
    /// not shown before. After `patience` answers that do not, the holder claims more than it
    /// shows. Returns whether it has come to that now.
    pub(super) fn add(
        &mut self,
        peer: PeerId,
        coverage: &Coverage,
        is_new: bool,
        patience: usize,
    ) -> bool {
        let claim = self.0.entry(peer).or_insert_with(|| Claim {
            arcs: Arcs::new(),
            spaces: 0,
            digest: [0; 32],
            idle: 0,
            overclaims: false,
            is_silent: false,
            asked: 1,
        });
        claim.arcs.add(coverage.arcs().iter().copied());
        (claim.spaces, claim.digest) = (coverage.spaces, coverage.digest);
        claim.idle = if is_new { 0 } else { claim.idle.saturating_add(1) };
        let overclaims = claim.idle >= patience.max(1) && !claim.arcs.is_ring();
        let is_news = overclaims && !claim.overclaims;
        claim.overclaims = overclaims;
        is_news
    }

    /// Handles a holder that did not answer when it was asked again.
    pub(super) fn on_no_answer(&mut self, peer: &PeerId) {
        if let Some(claim) = self.0.get_mut(peer) {
            claim.is_silent = true;
        }
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Claim> {
        self.0.get(peer)
    }

    /// Whether a holder says that it has this number of spaces.
    pub(super) fn has_spaces(&self, spaces: usize) -> bool {
        self.0.values().any(|claim| usize::try_from(claim.spaces) == Ok(spaces))
    }

    /// Handles another request to a holder.
    pub(super) fn on_asked(&mut self, peer: &PeerId) {
        if let Some(claim) = self.0.get_mut(peer) {
            claim.asked = claim.asked.saturating_add(1);
        }
    }

    /// The holders that may show more: those that have not shown all that they have, by their own
    /// words, do not claim more than they show, answer, and were asked less than `max` times.
    /// `joined` is the digest of all that was found, if it may be that of a holder.
    pub(super) fn unfinished(
        &self,
        joined: Option<[u8; 32]>,
        max: usize,
    ) -> impl Iterator<Item = PeerId> {
        let is_one = move |claim: &Claim| {
            let may_answer = !claim.overclaims && !claim.is_silent && claim.asked < max;
            may_answer && !claim.has_shown_all(joined)
        };
        self.0.iter().filter(move |(_, claim)| is_one(claim)).map(|(peer, _)| *peer)
    }

    /// The places that `n` of the closest peers have covered. Those without a record (`empty` of
    /// them) count, but each holder that has one has to show it, up to `n`, also if it has become
    /// silent. Where fewer than `n` of the closest have one, so do holders that are not among them.
    /// Those that claim more than they show do not. If there are only such holders, and more of
    /// them than peers without a record, one of them has to: honest ones seem to show nothing more
    /// where answers are lost.
    pub(super) fn covered(
        &self,
        joined: Option<[u8; 32]>,
        closest: &BTreeSet<PeerId>,
        empty: usize,
        n: usize,
    ) -> Arcs {
        let waited_for = |claims: &[&Claim]| {
            let overclaiming = claims.iter().filter(|claim| claim.overclaims).count();
            let shows = claims.len().saturating_sub(overclaiming);
            shows.max(usize::from(overclaiming > empty)).min(n)
        };
        let covered = |claims: &[&Claim], n| {
            let shown: Vec<_> = claims.iter().map(|claim| claim.shown(joined)).collect();
            Arcs::shared(shown.iter().map(AsRef::as_ref), n)
        };
        let all: Vec<_> = self.0.values().collect();
        let of_closest = self.0.iter().filter(|(peer, _)| closest.contains(peer));
        let of_closest: Vec<_> = of_closest.map(|(_, claim)| claim).collect();
        let needed = waited_for(&of_closest).max(n.saturating_sub(empty));
        covered(&of_closest, needed).and(&covered(&all, waited_for(&all)))
    }
}

impl Claim {
    /// Whether the joined content is all that it has.
    pub(crate) fn has(&self, joined: Option<[u8; 32]>) -> bool {
        joined == Some(self.digest)
    }

    /// Whether it has shown all that it has.
    pub(crate) fn has_shown_all(&self, joined: Option<[u8; 32]>) -> bool {
        self.arcs.is_ring() || self.has(joined)
    }

    /// The places of which it has shown all that it has.
    pub(crate) fn shown(&self, joined: Option<[u8; 32]>) -> Cow<'_, Arcs> {
        match self.has_shown_all(joined) {
            true => Cow::Owned(Arcs::ring()),
            false => Cow::Borrowed(&self.arcs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::RingArc;

    const JOINED: Option<[u8; 32]> = Some([9; 32]);

    /// What is covered if all holders are among the closest.
    fn covered(claims: &Claims, joined: Option<[u8; 32]>, empty: usize, n: usize) -> Arcs {
        claims.covered(joined, &claims.0.keys().copied().collect(), empty, n)
    }

    fn says(arcs: &[(u64, u64)], digest: u8) -> Coverage {
        let arcs = arcs.iter().map(|(first, last)| RingArc { first: *first, last: *last });
        Coverage::new(arcs, 5, [digest; 32])
    }

    #[test]
    fn every_place_has_to_be_covered_by_n() {
        let [a, b, c] = [(); 3].map(|()| PeerId::random());
        let mut claims = Claims::default();
        claims.add(a, &says(&[(0, 9)], 1), true, 1);
        claims.add(b, &says(&[(5, u64::MAX)], 1), true, 1);
        assert!(covered(&claims, JOINED, 0, 1).is_ring());
        let two = covered(&claims, JOINED, 0, 2);
        assert!(two.has(5) && two.has(9) && !two.has(4) && !two.has(10));
        claims.add(c, &says(&[], 9), true, 1);
        assert!(covered(&claims, JOINED, 0, 2).is_ring(), "its digest is that of what was found");
        assert!(!covered(&claims, Some([8; 32]), 0, 2).is_ring());
        assert!(!covered(&claims, None, 0, 2).is_ring());
        assert!(claims.has_spaces(5) && !claims.has_spaces(4));
    }

    #[test]
    fn peers_without_a_record_do_not_stand_for_holders() {
        let mut claims = Claims::default();
        assert!(covered(&claims, JOINED, 2, 2).is_ring() && !covered(&claims, JOINED, 1, 2).has(1));
        claims.add(PeerId::random(), &says(&[(0, 9)], 1), true, 1);
        let covered = covered(&claims, JOINED, 2, 2);
        assert!(covered.has(9) && !covered.has(10), "the holder has not shown the rest");
    }

    #[test]
    fn a_holder_that_claims_more_than_it_shows_is_not_waited_for() {
        let [liar, honest] = [(); 2].map(|()| PeerId::random());
        let mut claims = Claims::default();
        assert!(!claims.add(liar, &says(&[], 1), true, 1));
        claims.add(honest, &says(&[(0, u64::MAX)], 1), true, 1);
        assert_eq!(claims.unfinished(JOINED, 9).collect::<Vec<_>>(), [liar]);
        assert!(claims.add(liar, &says(&[], 1), false, 1));
        assert_eq!(claims.unfinished(JOINED, 9).count(), 0);
        assert!(covered(&claims, JOINED, 1, 2).is_ring(), "one has shown all, one has nothing");
        assert!(!covered(&claims, JOINED, 0, 2).has(0));
        assert!(!claims.add(liar, &says(&[], 1), true, 1), "it shows something again");
        assert_eq!(claims.unfinished(JOINED, 9).count(), 1);
    }

    #[test]
    fn two_peers_without_a_record_do_not_outweigh_many_holders_whose_answers_were_lost() {
        let mut claims = Claims::default();
        for n in 1..=5 {
            let holder = PeerId::random();
            claims.add(holder, &says(&[(0, 9)], 1), true, 1);
            claims.add(holder, &says(&[(0, 9)], 1), false, 1);
            let covered = covered(&claims, JOINED, 2, 2);
            assert!(covered.has(9));
            assert_eq!(covered.is_ring(), n <= 2, "{n} of them");
        }
    }

    #[test]
    fn a_holder_that_becomes_silent_is_not_asked_again_and_still_has_to_show_all() {
        let holder = PeerId::random();
        let mut claims = Claims::default();
        claims.add(holder, &says(&[(0, 9)], 1), true, 1);
        claims.on_no_answer(&holder);
        assert_eq!(claims.unfinished(JOINED, 9).count(), 0);
        let covered = covered(&claims, JOINED, 2, 2);
        assert!(covered.has(9) && !covered.has(10));
    }

    #[test]
    fn holders_beyond_the_closest_cover_nothing_for_them() {
        let mut claims = Claims::default();
        let closest: BTreeSet<_> = [(); 2].map(|()| PeerId::random()).into();
        for peer in &closest {
            claims.add(*peer, &says(&[(0, 9)], 1), true, 1);
        }
        for _ in 0..5 {
            claims.add(PeerId::random(), &says(&[(0, u64::MAX)], 2), true, 1);
        }
        assert!(covered(&claims, JOINED, 0, 2).is_ring());
        let of_closest = claims.covered(JOINED, &closest, 0, 2);
        assert!(of_closest.has(9) && !of_closest.has(10));
        assert!(!claims.covered(JOINED, &closest, 1, 2).has(10), "two of them have to show it");
    }

    #[test]
    fn holders_beyond_the_closest_have_to_show_what_fewer_of_these_have() {
        for (holders, has) in [(0, true), (1, false), (5, false)] {
            let mut claims = Claims::default();
            for _ in 0..holders {
                claims.add(PeerId::random(), &says(&[(0, 9)], 1), true, 1);
            }
            let of_closest = claims.covered(JOINED, &BTreeSet::new(), 20, 2);
            assert!(of_closest.has(9));
            assert_eq!(of_closest.has(10), has, "the closest are newcomers, {holders} are not");
        }
    }
}
