//! Arguments and output of `benches/ratios`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "of the bench, which uses the rest"
)]

#[path = "../benches/ratios/figures.rs"]
mod figures;
#[path = "../benches/ratios/harness.rs"]
mod harness;

use std::{collections::BTreeSet, time::Duration};

use figures::{FIGURES, figure};
use harness::{Harness, Outcome, Spread};
use serde_json::json;

fn harness(args: &[&str]) -> Result<Harness, String> {
    Harness::with_args(args.iter().map(|arg| (*arg).to_owned()))
}

#[test]
fn the_spread_is_the_quartiles_whatever_the_order_of_the_rounds() {
    let spread = |rounds: &[f64]| {
        let Spread { low, median, high, rounds } = Spread::of(rounds.to_vec());
        (low, median, high, rounds)
    };
    assert_eq!(spread(&[5.0, 1.0, 4.0, 2.0, 3.0]), (2.0, 3.0, 4.0, 5));
    assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]), (1.75, 2.5, 3.25, 4));
    assert_eq!(spread(&[7.0]), (7.0, 7.0, 7.0, 1));
}

#[test]
fn a_ratio_is_that_of_each_round_without_the_first() {
    let mut harness = harness(&["get_20_spaces", "--json"]).unwrap();
    let mut taken = [(900, 1), (2, 1), (8, 2), (3, 1)].into_iter();
    let mut rounds = 0;
    harness.ratio("get_20_spaces", 3, || {
        rounds += 1;
        let (measured, baseline) = taken.next().unwrap();
        (Duration::from_secs(measured), Duration::from_secs(baseline))
    });
    assert_eq!(rounds, 4);
    let spread = Spread { low: 2.5, median: 3.0, high: 3.5, rounds: 3 };
    assert_eq!(harness.outcomes["get_20_spaces"], Outcome::Measured(spread));
    harness.ratio("admit_new_update", 3, || unreachable!("it is not selected"));
}

#[test]
fn unknown_options_and_filters_that_select_nothing_are_errors() {
    assert_eq!(harness(&["--quick"]).unwrap_err(), "unknown option --quick; there is --json");
    let nothing = harness(&["get", "gets"]).unwrap_err();
    assert_eq!(nothing, "the name of no figure contains gets");
    let all = harness(&["--bench", "--json"]).unwrap();
    assert!(FIGURES.iter().all(|figure| all.wants(figure.name)));
    let some = harness(&["--bench", "two_cores", "network_get"]).unwrap();
    let wanted = FIGURES.iter().map(|figure| figure.name).filter(|name| some.wants(name));
    assert_eq!(
        wanted.collect::<Vec<_>>(),
        ["verify_strict_on_two_cores", "validate_on_two_cores", "network_get_latency"]
    );
}

#[test]
fn each_name_is_that_of_one_figure() {
    let names: BTreeSet<_> = FIGURES.iter().map(|figure| figure.name).collect();
    assert_eq!(names.len(), FIGURES.len());
}

#[test]
fn a_line_has_the_median_the_quartiles_and_the_goal() {
    let measured = |median| Outcome::Measured(Spread { median, low: 1.0, high: 2.0, rounds: 31 });
    for (name, median, text) in [
        ("admit_new_update", 1.2, "1.200 × (1.000 to 2.000 in 31 rounds; goal ≤ 1.2)"),
        ("admit_new_update", 1.25, "1.250 × (1.000 to 2.000 in 31 rounds; goal ≤ 1.2, missed)"),
        ("validate_on_two_cores", 1.5, "1.500 × (1.000 to 2.000 in 31 rounds; goal ≥ 1.8, missed)"),
        ("ed25519_in_50_us", 1.5, "1.500 × (1.000 to 2.000 in 31 rounds; goal none)"),
        ("longest_hold_inline", 1.5, "1.500 ms (1.000 to 2.000 in 31 rounds; goal ≤ 5)"),
    ] {
        assert_eq!(measured(median).text(figure(name)), format!("{name} {text}"));
    }
    let skipped = Outcome::Skipped("no \"network\"".to_owned());
    let text = "skipped: network_get_latency: no \"network\"";
    assert_eq!(skipped.text(figure("network_get_latency")), text);
}

#[test]
fn an_object_of_json_has_the_same() {
    let parse = |outcome: &Outcome, name| -> serde_json::Value {
        serde_json::from_str(&outcome.json(figure(name))).unwrap()
    };
    let measured = Outcome::Measured(Spread { median: 1.5, low: 1.0, high: 2.0, rounds: 7 });
    assert_eq!(
        parse(&measured, "validate_on_two_cores"),
        json!({
            "name": "validate_on_two_cores", "unit": "ratio", "median": 1.5, "low": 1.0,
            "high": 2.0, "rounds": 7, "goal": { "at_least": 1.8 }, "is_met": false,
        })
    );
    assert_eq!(
        parse(&measured, "ed25519_in_50_us"),
        json!({
            "name": "ed25519_in_50_us", "unit": "ratio", "median": 1.5,
            "low": 1.0, "high": 2.0, "rounds": 7,
        })
    );
    let skipped = Outcome::Skipped("no \"network\"".to_owned());
    assert_eq!(
        parse(&skipped, "network_get_latency"),
        json!({ "name": "network_get_latency", "skipped": "no \"network\"" })
    );
}

#[test]
fn what_is_selected_is_measured_or_skipped() {
    let mut silent = harness(&["network_get", "network_puts"]).unwrap();
    silent.skip(["network_get_latency", "admit_new_update"], "why");
    let silent = std::panic::catch_unwind(|| silent.finish()).unwrap_err();
    let told = silent.downcast_ref::<String>().unwrap();
    assert_eq!(told, "neither measured nor skipped: network_puts_per_second");
    let mut told = harness(&["network_get"]).unwrap();
    told.report("network_get_latency", vec![1.0]);
    told.finish();
}
