//! Arguments of the command, and its output: a line for each figure.
//!
//! **Invariants.** Each selected figure has a line: what it is, or why it was skipped.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use serde::Serialize;

use super::figures::{FIGURES, Figure, Goal, Unit, figure};

/// The median of the rounds of a figure, and the quartiles around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub rounds: usize,
}

impl Spread {
    /// The quartiles are interpolated between the closest ranks, as by default in R and NumPy.
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let rank = share * (rounds.len() - 1) as f64;
            let (below, above) = (rounds[rank.floor() as usize], rounds[rank.ceil() as usize]);
            below + (above - below) * rank.fract()
        };
        let [low, median, high] = [0.25, 0.5, 0.75].map(quantile);
        Self { median, low, high, rounds: rounds.len() }
    }
}

/// What is said of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Measured(Spread),
    /// And why.
    Skipped(String),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    Measured {
        name: &'a str,
        unit: Unit,
        median: f64,
        low: f64,
        high: f64,
        rounds: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        goal: Option<Goal>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_met: Option<bool>,
    },
    Skipped {
        name: &'a str,
        skipped: &'a str,
    },
}

impl Outcome {
    fn misses(&self, goal: Option<Goal>) -> bool {
        match (self, goal) {
            (Self::Measured(spread), Some(goal)) => !goal.is_met_by(spread.median),
            _ => false,
        }
    }

    /// A line for people.
    pub fn text(&self, Figure { name, unit, goal }: &Figure) -> String {
        let Spread { median, low, high, rounds } = match self {
            Self::Measured(spread) => spread,
            Self::Skipped(why) => return format!("skipped: {name}: {why}"),
        };
        let goal_text = match goal {
            Some(Goal::AtMost(max)) => format!("≤ {max}"),
            Some(Goal::AtLeast(min)) => format!("≥ {min}"),
            None => "none".to_owned(),
        };
        let note = if self.misses(*goal) { ", missed" } else { "" };
        let unit = unit.symbol();
        format!(
            "{name} {median:.3} {unit} ({low:.3} to {high:.3} in {rounds} rounds; goal {goal_text}{note})"
        )
    }

    /// An object of JSON on one line.
    pub fn json(&self, Figure { name, unit, goal }: &Figure) -> String {
        let json = match self {
            Self::Measured(Spread { median, low, high, rounds }) => Json::Measured {
                name,
                unit: *unit,
                median: *median,
                low: *low,
                high: *high,
                rounds: *rounds,
                goal: *goal,
                is_met: goal.map(|goal| goal.is_met_by(*median)),
            },
            Self::Skipped(why) => Json::Skipped { name, skipped: why },
        };
        serde_json::to_string(&json).unwrap()
    }
}

/// The selected figures, and what was said of them.
#[derive(Debug)]
pub struct Harness {
    filters: Vec<String>,
    is_json: bool,
    /// What was said.
    pub outcomes: BTreeMap<&'static str, Outcome>,
}

impl Harness {
    /// Each argument that is not an option selects the figures whose names contain it.
    ///
    /// # Errors
    /// An unknown option, and a filter that selects no figure.
    pub fn with_args(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut filters, mut is_json) = (Vec::new(), false);
        for arg in args {
            match arg.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--json" => is_json = true,
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}; there is --json"));
                }
                filter if FIGURES.iter().all(|figure| !figure.name.contains(filter)) => {
                    return Err(format!("the name of no figure contains {filter}"));
                }
                _ => filters.push(arg),
            }
        }
        Ok(Self { filters, is_json, outcomes: BTreeMap::new() })
    }

    /// Whether a figure is selected.
    pub fn wants(&self, name: &str) -> bool {
        let name = figure(name).name;
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Whether any of these figures is selected.
    pub fn wants_any<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| self.wants(name))
    }

    fn say(&mut self, name: &str, outcome: Outcome) {
        if !self.wants(name) {
            return;
        }
        let figure = figure(name);
        println!("{}", if self.is_json { outcome.json(figure) } else { outcome.text(figure) });
        assert!(self.outcomes.insert(figure.name, outcome).is_none(), "{name} twice");
    }

    /// Prints a figure that was measured in several rounds, if it is selected.
    pub fn report(&mut self, name: &str, rounds: Vec<f64>) {
        self.say(name, Outcome::Measured(Spread::of(rounds)));
    }

    /// Prints that figures are not measured, and why: those of them that are selected.
    pub fn skip<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, why: impl Display) {
        let outcome = Outcome::Skipped(why.to_string());
        names.into_iter().for_each(|name| self.say(name, outcome.clone()));
    }

    /// Prints a figure that is a ratio of two durations, if it is selected. Each round measures
    /// both, so that other load on the machine affects both. The first round is not counted.
    pub fn ratio(
        &mut self,
        name: &str,
        rounds: usize,
        mut round: impl FnMut() -> (Duration, Duration),
    ) {
        if !self.wants(name) {
            return;
        }
        round();
        let ratios = (0..rounds).map(|_| {
            let (measured, baseline) = round();
            measured.as_secs_f64() / baseline.as_secs_f64()
        });
        self.report(name, ratios.collect());
    }

    /// Prints the missed goals. A missed goal is no failure: `docs/performance.md` explains it.
    ///
    /// # Panics
    /// If a selected figure has no line.
    pub fn finish(self) {
        let (mut silent, mut missed) = (Vec::new(), Vec::new());
        for Figure { name, goal, .. } in FIGURES.iter().filter(|figure| self.wants(figure.name)) {
            match self.outcomes.get(name) {
                Some(outcome) if outcome.misses(*goal) => missed.push(*name),
                Some(_) => {}
                None => silent.push(*name),
            }
        }
        assert!(silent.is_empty(), "neither measured nor skipped: {}", silent.join(", "));
        if !missed.is_empty() && !self.is_json {
            println!("missed: {}", missed.join(", "));
        }
    }
}
