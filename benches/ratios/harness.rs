//! Prints figures and compares them with their goals.

use std::{
    fmt::{self, Display},
    time::Duration,
};

/// The goal of a figure.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// No goal; the figure is only printed.
    None,
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(max) => value <= max,
            Self::AtLeast(min) => value >= min,
            Self::None => true,
        }
    }
}

impl Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(max) => write!(f, "≤ {max}"),
            Self::AtLeast(min) => write!(f, "≥ {min}"),
            Self::None => write!(f, "none"),
        }
    }
}

/// The selected figures, and how many have missed their goals.
pub struct Harness {
    filters: Vec<String>,
    missed: Vec<&'static str>,
}

impl Harness {
    /// Each argument that is not an option selects the figures whose names contain it.
    pub fn from_args() -> Self {
        let filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        Self { filters, missed: Vec::new() }
    }

    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Prints a figure.
    pub fn report(&mut self, name: &'static str, value: f64, unit: &str, goal: Goal) {
        let met = goal.is_met_by(value);
        let note = if met { "" } else { ", missed" };
        println!("{name} {value:.3} {unit} (goal {goal}{note})");
        if !met {
            self.missed.push(name);
        }
    }

    /// Prints a figure that is a ratio of two durations, if it is selected. It is the median of the
    /// ratios of `rounds` rounds, so that other load on the machine affects both durations.
    pub fn ratio(
        &mut self,
        name: &'static str,
        goal: Goal,
        rounds: usize,
        mut round: impl FnMut() -> (Duration, Duration),
    ) {
        if !self.wants(name) {
            return;
        }
        round();
        let mut ratios: Vec<_> = (0..rounds)
            .map(|_| {
                let (measured, compared_with) = round();
                measured.as_secs_f64() / compared_with.as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        self.report(name, ratios[rounds / 2], "×", goal);
    }

    /// Prints the missed goals. A missed goal is no failure: `docs/performance.md` explains it.
    pub fn finish(self) {
        if !self.missed.is_empty() {
            println!("missed: {}", self.missed.join(", "));
        }
    }
}
