//! Estimate of the number of peers in the network, from the distances of the peers closest to a
//! target.
//!
//! Peer ids are hashes, so `n` peers are spread evenly. The distance of the `k`-th closest peer, as
//! a share of the key space, closely follows a Gamma distribution of shape `k` and rate `n`. So
//! `(k - 1) / distance` estimates `n` without bias, with a relative error of `1 / √(k - 2)` for one
//! lookup.
//!
//! **Invariants.** One target counts once, however often it is looked up, and the estimate is the
//! median over targets: crowding one key with peers does not move it. What is measured does not
//! depend on the estimate, and is forgotten after an hour, so the estimate follows a network that
//! grows or shrinks.
//!
//! **Spec.** D. Kostoulas et al., *Decentralized schemes for size estimation in large and dynamic
//! groups* (NCA 2005), on interval density; D. Trautwein et al., *IPFS in the fast lane* (INFOCOM
//! 2024), which ends lookups by such an estimate.

use std::{cmp::Ordering, time::Duration};

use hashlink::LruCache;

use crate::distance::{Distance, Place};

/// Number of latest targets whose median is the estimate.
const TARGETS: usize = 64;
/// How long a measurement counts. A guess: a network that has doubled within an hour is rare.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Minimum number of targets for an estimate, as in go-libp2p-kad-dht. The relative error is then
/// some 13 %.
const FEWEST_TARGETS: usize = 5;
/// Peers are implausibly close if the probability of their distances is below this.
const IMPLAUSIBLE: f64 = 1e-6;

/// Estimate of the number of peers in the network.
pub struct NetworkSize {
    by_target: LruCache<Place, Measured>,
    estimate: Option<f64>,
}

/// Number of peers by the closest to one target.
struct Measured {
    peers: f64,
    at: Duration,
}

impl Default for NetworkSize {
    fn default() -> Self {
        Self { by_target: LruCache::new(TARGETS), estimate: None }
    }
}

impl NetworkSize {
    /// Estimated number of peers, once enough targets have been looked up.
    pub const fn estimate(&self) -> Option<f64> {
        self.estimate
    }

    /// Records the distance of the `k`-th closest peer to a target, from a finished lookup.
    pub fn on_closest(&mut self, target: Place, k: usize, distance: &Distance, now: Duration) {
        let share = distance.as_share();
        if k > 1 && share > 0.0 {
            let peers = to_f64(k.saturating_sub(1)) / share;
            self.by_target.insert(target, Measured { peers, at: now });
        }
        self.forget_old(now);
    }

    /// Forgets what was measured more than an hour ago. To be called before a lookup. The cost is
    /// that of sorting 64 numbers.
    pub fn forget_old(&mut self, now: Duration) {
        self.by_target.retain(|_, measured| now.saturating_sub(measured.at) < LIFE);
        let mut all: Vec<_> = self.by_target.iter().map(|(_, measured)| measured.peers).collect();
        all.sort_unstable_by(f64::total_cmp);
        let has_enough = all.len() >= FEWEST_TARGETS;
        self.estimate = all.get(all.len() / 2).copied().filter(|_| has_enough);
    }

    /// Number of these peers, sorted by distance, that are implausibly close: those up to the rank
    /// with the least probability, if that is at most 10⁻⁶. Zero without an estimate.
    pub(crate) fn implausible(&self, sorted: impl Iterator<Item = Distance>) -> usize {
        let Some(peers) = self.estimate else {
            return 0;
        };
        let (mut least, mut implausible) = (IMPLAUSIBLE, 0);
        for (rank, distance) in (1_usize..).zip(sorted) {
            let chance = chance_of_at_least(rank, peers * distance.as_share());
            if chance <= least {
                (least, implausible) = (chance, rank);
            }
        }
        implausible
    }

    /// Whether the `k`-th closest known peer is so close that hardly any closer peer is unknown: at
    /// most a standard deviation beyond the expected distance.
    pub(crate) fn is_close(&self, k: usize, distance: &Distance) -> bool {
        let k = to_f64(k);
        self.estimate.is_some_and(|peers| peers * distance.as_share() <= k + k.sqrt())
    }
}

// Without the measurements of all targets.
smart_record_core::impl_debug! { NetworkSize: |size| estimate: size.estimate }

/// Probability that a Poisson variable of this mean is at least `rank`.
fn chance_of_at_least(rank: usize, mean: f64) -> f64 {
    let k = to_f64(rank);
    if mean.partial_cmp(&k) != Some(Ordering::Less) {
        // The probability is more than a third; only small ones matter.
        return 1.0;
    }
    // The first term, by logarithms to avoid overflow, then the series, which converges faster than
    // a geometric one.
    let log = (1..=rank).map(|i| (mean / to_f64(i)).ln()).sum::<f64>() - mean;
    let (mut term, mut sum, mut i) = (log.exp(), 0.0, k);
    while term > sum * 1e-9 && term > 0.0 {
        sum += term;
        i += 1.0;
        term *= mean / i;
    }
    sum
}

fn to_f64(count: usize) -> f64 {
    // Exact: counts of peers of one lookup are small.
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-3
    }

    #[test]
    fn the_chance_is_that_of_a_poisson_variable() {
        // Values of the regularised incomplete gamma function P(k, x).
        for (rank, mean, chance) in [
            (1, 1e-7, 1e-7),
            (1, 0.5, 0.393_469),
            (2, 0.1, 0.004_678_84),
            (20, 10.0, 0.003_454_34),
            (20, 5.0, 3.452_14e-7),
            (20, 1.0, 1.587_53e-19),
        ] {
            let computed = chance_of_at_least(rank, mean);
            assert!(close(computed, chance), "{rank} {mean}: {computed}");
        }
        assert_eq!(chance_of_at_least(20, 30.0), 1.0);
        assert_eq!(chance_of_at_least(3, 0.0), 0.0);
    }

    /// The distances of the closest of `n` peers, sorted; other peers for each target.
    fn closest(target: Place, n: usize) -> Vec<Distance> {
        let place = |i: usize| Place::of_key(format!("{target:?} {i}").as_bytes());
        let mut distances: Vec<_> = (0..n).map(|i| target.distance(&place(i))).collect();
        distances.sort();
        distances.truncate(20);
        distances
    }

    fn of_network(peers: usize, targets: usize) -> NetworkSize {
        let mut size = NetworkSize::default();
        for n in 0..targets {
            let target = Place::of_key(&n.to_be_bytes());
            size.on_closest(target, 20, &closest(target, peers)[19], Duration::ZERO);
        }
        size
    }

    #[test]
    fn the_estimate_is_near_the_truth() {
        let size = of_network(1_000, 40);
        let estimate = size.estimate().unwrap();
        assert!((700.0..1_400.0).contains(&estimate), "{estimate}");
        assert_eq!(of_network(1_000, 4).estimate(), None, "too few");
    }

    #[test]
    fn what_was_measured_an_hour_ago_is_forgotten() {
        let mut size = of_network(1_000, 40);
        size.forget_old(LIFE - Duration::from_secs(1));
        assert!(size.estimate().is_some());
        size.forget_old(LIFE);
        assert_eq!(size.estimate(), None);
    }

    #[test]
    fn one_crowded_target_moves_nothing() {
        let mut size = of_network(1_000, 5);
        let target = Place::of_key(b"/sr/crowded");
        let crowd = closest(target, 20_000);
        for _ in 0..1_000 {
            size.on_closest(target, 20, &crowd[19], Duration::ZERO);
        }
        assert!(size.estimate().unwrap() < 2_500.0, "{size:?}");
    }

    #[test]
    fn the_closest_of_the_network_are_plausible_and_a_crowd_among_them_is_not() {
        let size = of_network(1_000, 40);
        let target = Place::of_key(b"/sr/a");
        let honest = closest(target, 1_000);
        assert_eq!(size.implausible(honest.iter().copied()), 0);
        // Twenty ids chosen for the target stand among them.
        let crowd = closest(target, 20_000);
        let mut all = [honest, crowd.clone()].concat();
        all.sort();
        let implausible = size.implausible(all.iter().copied());
        assert!((15..=25).contains(&implausible), "{implausible}");
    }

    #[test]
    fn the_closest_there_are_mostly_pass_for_close_and_those_twice_as_far_do_not() {
        let size = of_network(1_000, 40);
        let pass = |peers: usize| {
            let targets = (100..140_usize).map(|n| Place::of_key(&n.to_be_bytes()));
            targets.filter(|target| size.is_close(20, &closest(*target, peers)[19])).count()
        };
        assert!(pass(1_000) > 25, "{}", pass(1_000));
        assert_eq!(pass(500), 0);
    }

    #[test]
    fn nothing_is_implausible_before_there_is_an_estimate() {
        let size = NetworkSize::default();
        let crowd = closest(Place::of_key(b"/sr/a"), 10_000);
        assert_eq!(size.implausible(crowd.into_iter()), 0);
    }
}
