//! Nodes of other implementations and ours, both ways and in one network: what works is compared
//! with the table in `docs/interop.md`.
//!
//! `scripts/interop` builds the nodes and runs this, so it is no part of `cargo test`.
//!
//! usage: interop [--table | NAME...]      --table writes the table; a NAME limits the run to the
//! implementations with it in theirs, `mixed` to the network of all

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod checks;
mod foreign;
mod mixed;
mod ours;
mod records;
mod table;

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use crate::{
    checks::{Bench, Capability, cannot},
    foreign::{Implementation, Outcome},
    mixed::Network,
};

/// Name of the network of all implementations.
const MIXED: &str = "mixed";

#[derive(Default)]
struct Results {
    works: BTreeMap<(usize, Implementation), bool>,
    unexpected: Vec<String>,
}

impl Results {
    fn note(&mut self, row: usize, implementation: Implementation, outcome: Outcome) {
        let (capability, name) = (Capability::ALL[row], implementation.name());
        let text = capability.text();
        match (&outcome, cannot(implementation, capability)) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(reason)) => {
                self.unexpected.push(format!("{name}: {text}: works, in spite of \"{reason}\""));
            }
            (Err(error), None) => self.unexpected.push(format!("{name}: {text}: {error}")),
        }
        let shown = outcome.as_ref().map_or_else(String::as_str, |()| "yes");
        println!("{name}: {text}: {}", shown.chars().take(200).collect::<String>());
        self.works.insert((row, implementation), outcome.is_ok());
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let writes_table = names == ["--table"];
    if writes_table {
        names.clear();
    }
    let has = |implementation: &Implementation, name: &str| implementation.name().contains(name);
    let is_known = |name: &str| {
        let mut all = Implementation::ALL.iter();
        !name.is_empty() && (name == MIXED || all.any(|implementation| has(implementation, name)))
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let all = Implementation::ALL.map(|implementation| implementation.name()).join(", ");
        eprintln!("FAILED: {unknown:?} is neither --table alone nor in one of: {all}, {MIXED}");
        return ExitCode::from(2);
    }
    let is_wanted = |implementation: &Implementation| {
        names.is_empty() || names.iter().any(|name| has(implementation, name))
    };
    let mut results = Results::default();
    for implementation in Implementation::ALL.into_iter().filter(is_wanted) {
        let started = Instant::now();
        let bench = Bench::start(implementation).await;
        for (row, capability) in Capability::ALL.into_iter().enumerate() {
            if !matches!(capability, Capability::Mixed(_)) {
                results.note(row, implementation, bench.check(capability).await);
            }
        }
        if let Err(error) = bench.commands_of_kubo().await {
            results.unexpected.push(format!("commands of kubo: {error}"));
        }
        println!("== {}: {:.1} min", implementation.name(), started.elapsed().as_secs_f64() / 60.0);
    }
    if names.is_empty() || names.iter().any(|name| name == MIXED) {
        let started = Instant::now();
        let network = Network::start().await;
        for (row, capability) in Capability::ALL.into_iter().enumerate() {
            if let Capability::Mixed(mixed) = capability {
                for (implementation, outcome) in network.check(mixed).await {
                    results.note(row, implementation, outcome);
                }
            }
        }
        println!("== all in one network: {:.1} min", started.elapsed().as_secs_f64() / 60.0);
    }
    for unexpected in &results.unexpected {
        eprintln!("FAILED: {unexpected}");
    }
    if !results.unexpected.is_empty() {
        return ExitCode::FAILURE;
    }
    if names.is_empty() {
        let rendered = table::render(&results.works);
        if writes_table {
            table::write(&rendered);
        } else if !table::is_current(&rendered) {
            eprintln!("FAILED: the table in docs/interop.md is another; scripts/interop --table");
            return ExitCode::FAILURE;
        }
    }
    println!("interop: all as docs/interop.md says");
    ExitCode::SUCCESS
}
