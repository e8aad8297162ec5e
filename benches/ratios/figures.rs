//! The names, units and goals of all figures.

use serde::Serialize;

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Ratio,
    Seconds,
    Milliseconds,
}

impl Unit {
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Ratio => "×",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
        }
    }
}

/// The goal of a figure, for its median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub fn is_met_by(self, median: f64) -> bool {
        match self {
            Self::AtMost(max) => median <= max,
            Self::AtLeast(min) => median >= min,
        }
    }
}

/// A figure of the command.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub unit: Unit,
    pub goal: Option<Goal>,
}

const fn ratio(name: &'static str, goal: Option<Goal>) -> Figure {
    Figure { name, unit: Unit::Ratio, goal }
}

const fn reopening(name: &'static str) -> Figure {
    Figure { name, unit: Unit::Seconds, goal: at_most(1.0) }
}

const fn hold(name: &'static str, goal: Option<Goal>) -> Figure {
    Figure { name, unit: Unit::Milliseconds, goal }
}

const fn at_most(max: f64) -> Option<Goal> {
    Some(Goal::AtMost(max))
}

const fn at_least(min: f64) -> Option<Goal> {
    Some(Goal::AtLeast(min))
}

/// All figures, in the order in which they are measured.
pub static FIGURES: [Figure; 35] = [
    ratio("ed25519_in_50_us", None),
    ratio("secp256k1_in_its_weight", at_most(1.25)),
    ratio("ecdsa_in_its_weight", at_most(1.25)),
    ratio("rsa_2048_in_its_weight", at_most(1.25)),
    ratio("verify_again_from_memory", at_most(0.10)),
    ratio("admit_new_update", at_most(1.20)),
    ratio("admit_new_update_of_new_key", at_most(1.20)),
    ratio("admit_known_update", at_most(0.06)),
    ratio("admit_packet_of_40", at_most(0.65)),
    ratio("put_into_board_of_1000", at_most(1.10)),
    ratio("join_boards_differing_in_10", at_most(4.0)),
    ratio("get_20_spaces", at_most(2.0)),
    ratio("get_20_spaces_for_the_first_time", at_most(3.0)),
    ratio("verify_strict_on_two_cores", None),
    ratio("validate_on_two_cores", at_least(1.8)),
    ratio("collect_1000_of_1000000", at_most(1.5)),
    ratio("resident_bytes_per_wire_byte", at_most(2.0)),
    ratio("resident_bytes_per_wire_byte_of_records_of_one_space", at_most(1.8)),
    ratio("redb_group_puts_per_memory_put", at_least(0.5)),
    reopening("redb_reopen_1000000"),
    reopening("redb_reopen_1000000_after_a_crash"),
    ratio("network_puts_per_second", at_least(0.9)),
    ratio("network_get_latency", at_most(1.15)),
    hold("longest_hold_inline", at_most(5.0)),
    hold("longest_hold_inline_when_reading", at_most(2.0)),
    hold("longest_hold_off_the_task", at_most(1.0)),
    hold("longest_hold_off_the_task_when_reading", at_most(1.0)),
    hold("longest_hold_of_ed25519_inline", at_most(5.0)),
    hold("longest_hold_of_ed25519_off_the_task", at_most(1.0)),
    hold("longest_hold_of_secp256k1_inline", at_most(5.0)),
    hold("longest_hold_of_secp256k1_off_the_task", at_most(1.0)),
    hold("longest_hold_of_ecdsa_inline", at_most(5.0)),
    hold("longest_hold_of_ecdsa_off_the_task", at_most(1.0)),
    hold("longest_hold_of_rsa_2048_inline", at_most(5.0)),
    hold("longest_hold_of_rsa_2048_off_the_task", at_most(1.0)),
];

/// The figure of a name, which has to be in the list.
pub fn figure(name: &str) -> &'static Figure {
    FIGURES.iter().find(|figure| figure.name == name).expect("a figure of the list")
}
