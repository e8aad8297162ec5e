//! Coverage: arcs are sets of places, and a digest is that of what is retained.

use super::*;
use std::collections::BTreeSet;

use smart_record_core::{Arcs, Coverage, RingArc};

/// Few places, at the ends of the ring and in the middle, so that arcs touch.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..6, 1_000_u64..1_006, u64::MAX - 5..=u64::MAX, any::<u64>()]
}

fn ring_arcs(max: usize) -> impl Strategy<Value = Vec<RingArc>> {
    vec((place(), place()).prop_map(|(first, last)| RingArc { first, last }), 0..max)
}

fn is_in(arc: &RingArc, place: u64) -> bool {
    match arc.first <= arc.last {
        true => (arc.first..=arc.last).contains(&place),
        false => place >= arc.first || place <= arc.last,
    }
}

fn arcs_of(arcs: &[RingArc]) -> Arcs {
    let mut all = Arcs::new();
    all.add(arcs.iter().copied());
    all
}

/// The places at which anything can change.
fn corners(arcs: &[Vec<RingArc>]) -> BTreeSet<u64> {
    let ends = arcs.iter().flatten().flat_map(|arc| [arc.first, arc.last]);
    ends.flat_map(|place| [place.wrapping_sub(1), place, place.wrapping_add(1)]).collect()
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn arcs_are_sets_of_places(all in vec(ring_arcs(6), 0..5), n in 0..5_usize, seed: u64) {
        let sets: Vec<_> = all.iter().map(|arcs| arcs_of(arcs)).collect();
        let shared = Arcs::shared(&sets, n);
        for place in corners(&all) {
            for (set, arcs) in sets.iter().zip(&all) {
                prop_assert_eq!(set.has(place), arcs.iter().any(|arc| is_in(arc, place)));
            }
            let count = sets.iter().filter(|set| set.has(place)).count();
            prop_assert_eq!(shared.has(place), count >= n, "{} of {} at {}", count, n, place);
        }
        prop_assert_eq!(shared.is_ring(), shared.rest() == 0.0);
        // In any order, in pieces, and twice.
        for arcs in &all {
            let mut other = arcs.clone();
            Dice(seed).shuffle(&mut other);
            let mut pieces = Arcs::new();
            other.iter().chain(arcs).for_each(|arc| pieces.add([*arc]));
            prop_assert_eq!(pieces, arcs_of(arcs));
        }
    }

    #[test]
    fn a_coverage_is_read_as_it_was_written(
        arcs in ring_arcs(12),
        spaces: u32,
        digest: [u8; 32],
        record in vec(any::<u8>(), 0..40),
    ) {
        let coverage = Coverage::new(arcs.clone(), spaces, digest);
        prop_assert_eq!(coverage.arcs(), &arcs[..arcs.len().min(Coverage::MAX_ARCS)]);
        let mut field = Vec::new();
        coverage.append_to(&mut field);
        prop_assert!(field.len() <= Coverage::MAX_BYTES);
        prop_assert_eq!(Coverage::of_answer(&field), Some(coverage));
        // Any bytes are read without a panic.
        let _ = Coverage::of_answer(&record);
    }

    #[test]
    fn records_have_one_digest_if_the_same_is_retained(
        histories in histories(any_history()),
        now in 0..SPAN,
        seed: u64,
    ) {
        let updates = all_updates(&histories);
        let [a, b, c] = deal(&updates, &mut Dice(seed));
        let retained = |record: &SmartRecord| -> BTreeSet<_> {
            let of = |(writer, space): (&Writer, &smart_record_core::Space)| {
                let live = space.updates().filter(|update| update.retain_until() > at(now));
                live.map(|update| (writer.clone(), update.position())).collect::<Vec<_>>()
            };
            record.spaces().flat_map(of).collect()
        };
        let all = joined(&joined(&a, &b), &c);
        let mut collected = all.clone();
        collected.collect(at(now));
        prop_assert_eq!(collected.digest(at(now)), all.digest(at(now)));
        for (one, other) in [(&a, &b), (&b, &c), (&a, &all), (&all, &all)] {
            prop_assert_eq!(
                one.digest(at(now)) == other.digest(at(now)),
                retained(one) == retained(other)
            );
        }
    }
}
