//! How long nodes stay.
//!
//! Of the DHT servers of public IPFS that were seen to join, half stay for some two hours or less
//! and 80 % for eight hours or less (ProbeLab, *RFM 2: Uptime and Churn*, 2022,
//! <https://github.com/probe-lab/network-measurements/blob/main/results/rfm2-uptime-and-churn.md>).
//! A log-normal distribution through these two points has a heavy tail: 7 % stay for more than a
//! day. Those who are there at any moment are mostly of that tail, because it lasts; so the model
//! begins with a population in which a session is found with a chance that grows with its length.
//!
//! In the harsh kind nobody has a tail: half of those who are there at any moment are gone after
//! the half-life, whoever they are.

use smart_record_sim_entropy::Random;

use crate::time::{HOUR, Time};

/// Lengths of sessions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sessions {
    /// Half of those that join are gone after this time, and 80 % after four times that.
    HeavyTail { median: Time },
    /// Half of those that are there are gone after this time.
    HalfLife(Time),
}

/// The standard deviation of the logarithm, by which a factor of four lies between half and 80 %:
/// ln 4 / 0.8416.
const SIGMA: f64 = 1.647;

impl Sessions {
    /// As measured in public.
    pub(crate) const MEASURED: Self = Self::HeavyTail { median: 2 * HOUR };

    /// The length of the session of a node that joins.
    pub(crate) fn draw(self, random: &mut Random) -> Time {
        match self {
            Self::HeavyTail { median } => of(median, (SIGMA * normal(random)).exp()),
            Self::HalfLife(half) => of(half, -unit(random).log2()),
        }
    }

    /// What is left of the session of a node that is found at a moment.
    pub(crate) fn draw_rest(self, random: &mut Random) -> Time {
        match self {
            Self::HeavyTail { median } => {
                // Weighted by its length, the logarithm is normal again, moved by its variance.
                let length = SIGMA.mul_add(normal(random), SIGMA * SIGMA).exp();
                of(median, length * unit(random))
            }
            Self::HalfLife(_) => self.draw(random),
        }
    }

    /// Mean length.
    pub(crate) fn mean(self) -> Time {
        match self {
            Self::HeavyTail { median } => of(median, (SIGMA * SIGMA / 2.0).exp()),
            Self::HalfLife(half) => of(half, std::f64::consts::LOG2_E),
        }
    }
}

/// The time until the next of events of which this many happen in `mean`.
pub(crate) fn pause(random: &mut Random, mean: Time, count: usize) -> Time {
    of(mean, -unit(random).ln() / count.max(1) as f64)
}

fn of(time: Time, factor: f64) -> Time {
    (time as f64 * factor) as Time
}

/// A number above 0, up to 1.
fn unit(random: &mut Random) -> f64 {
    1.0 - random.unit()
}

/// A number of the standard normal distribution (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    (-2.0 * unit(random).ln()).sqrt() * (std::f64::consts::TAU * unit(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(lengths: &[Time], of: Time) -> f64 {
        lengths.iter().filter(|length| **length <= of).count() as f64 / lengths.len() as f64
    }

    #[test]
    fn sessions_are_as_long_as_was_measured() {
        let mut random = Random::new(1);
        let lengths: Vec<_> = (0..100_000).map(|_| Sessions::MEASURED.draw(&mut random)).collect();
        assert!((share(&lengths, 2 * HOUR) - 0.5).abs() < 0.01);
        assert!((share(&lengths, 8 * HOUR) - 0.8).abs() < 0.01);
        assert!((share(&lengths, 24 * HOUR) - 0.934).abs() < 0.01);
    }

    #[test]
    fn a_half_life_halves_whoever_is_there() {
        let mut random = Random::new(1);
        let sessions = Sessions::HalfLife(HOUR);
        let lengths: Vec<_> = (0..100_000).map(|_| sessions.draw_rest(&mut random)).collect();
        assert!((share(&lengths, HOUR) - 0.5).abs() < 0.01);
        assert!((share(&lengths, 2 * HOUR) - 0.75).abs() < 0.01);
    }
}
