//! The table in `docs/interop.md`.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

use crate::{
    checks::{Capability, cannot},
    foreign::Implementation,
};

const BEGIN: &str = "<!-- table: written by scripts/interop --table -->\n";
const END: &str = "<!-- end of the table -->\n";

/// The table, from what was seen to work.
pub fn render(works: &BTreeMap<(usize, Implementation), bool>) -> String {
    let mut out = String::from("| |");
    for implementation in Implementation::ALL {
        write!(out, " {} |", implementation.name()).unwrap();
    }
    out += "\n|---|";
    out += &"---|".repeat(Implementation::ALL.len());
    out.push('\n');
    let mut reasons: Vec<&str> = Vec::new();
    for (row, capability) in Capability::ALL.into_iter().enumerate() {
        write!(out, "| {} |", capability.text()).unwrap();
        for implementation in Implementation::ALL {
            if works[&(row, implementation)] {
                out += " yes |";
                continue;
            }
            let reason = cannot(implementation, capability).unwrap();
            let known = reasons.iter().position(|known| *known == reason);
            let number = known.unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
            write!(out, " no ({}) |", number + 1).unwrap();
        }
        out.push('\n');
    }
    out.push('\n');
    for (number, reason) in reasons.iter().enumerate() {
        writeln!(out, "{}. {reason}", number + 1).unwrap();
    }
    out
}

fn document() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/interop.md")
}

/// The document with this table in the place of its own.
fn with(table: &str) -> (String, String) {
    let old = std::fs::read_to_string(document()).unwrap();
    let (before, rest) = old.split_once(BEGIN).expect("docs/interop.md has no table");
    let (_, after) = rest.split_once(END).expect("docs/interop.md has no end of the table");
    let new = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    (old, new)
}

pub fn write(table: &str) {
    std::fs::write(document(), with(table).1).unwrap();
}

/// Whether the document has this table.
pub fn is_current(table: &str) -> bool {
    let (old, new) = with(table);
    old == new
}
