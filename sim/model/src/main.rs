//! A modelled network of up to a hundred thousand nodes over the real store and lookups.
//!
//! Real are the stores with all their rules ([`SmartRecordStore`]), the signed updates, joins and
//! views, the lookups and their patience (`smart-record-lookup`), and the part of a read that joins
//! answers ([`RecordReader`]). The verdicts on signatures are shared by all nodes, so each of them
//! is verified once.
//!
//! Modelled are the routing tables ([`ids`]), the links ([`link`]), the schedules ([`replicate`],
//! [`writer`]), whether answers cover a record ([`answers`]) and what strings these parts together
//! ([`asker`]). Each of these modules says where it departs from the real code. Not modelled at
//! all: Kademlia's own upkeep of routing tables and its traffic, identify beyond its bytes, the
//! budget of work for others, what a watch keeps, memories of rollbacks, storage on disk, limits of
//! streams and connections.
//!
//! [`SmartRecordStore`]: libp2p_smart_record::store::SmartRecordStore
//! [`RecordReader`]: libp2p_smart_record::query::RecordReader

mod answers;
mod asker;
mod churn;
mod ids;
mod link;
mod measure;
mod node;
mod replicate;
mod report;
mod scenarios;
mod time;
mod world;
mod writer;

use std::{error::Error, path::Path, process::ExitCode};

use crate::{
    report::Report,
    scenarios::{churn as day, faults, growth, hostile, presence, short},
    time::HOUR,
    world::{Config, World},
};

const USAGE: &str = "usage: smart-record-model results DOCUMENT [NAME…] | check SEED | trace SEED

results  runs the scenarios (all, or those named) and writes their tables into DOCUMENT, and CSV and
         SVG into the folder of its name: growth silent calibration widths churn intervals
         partition restart mixed crowd watch flood sybils presence
check    runs small networks and fails if a check does; the same seed prints the same
trace    prints a hash of an hour of a small network that changes; the same seed gives the same";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["trace", seed] => trace(seed),
        ["check", seed] => check(seed),
        ["results", document, names @ ..] => results(Path::new(document), names),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The sizes of networks that are compared.
const SIZES: [usize; 7] = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];

fn results(document: &Path, names: &[&str]) -> Result<(), Box<dyn Error>> {
    smart_record_sim_entropy::seed(1)?;
    let report = Report::new(document)?;
    let wants = |name| names.is_empty() || names.contains(&name);
    if wants("growth") {
        growth::run(&report, &SIZES, 0)?;
    }
    if wants("silent") {
        growth::run(&report, &[1_000, 10_000], 33)?;
    }
    if wants("calibration") {
        growth::calibrate(&report, &[24, 100, 300, 1_000, 10_000])?;
    }
    if wants("widths") {
        growth::widths(&report, 10_000)?;
    }
    if wants("churn") {
        day::copies(&report, 10_000, 100)?;
    }
    if wants("intervals") {
        day::intervals(&report, 3_000, 60)?;
    }
    if wants("partition") {
        faults::partition(&report, &[1_000, 10_000], 40)?;
    }
    if wants("restart") {
        faults::restart(&report, 10_000, 200)?;
    }
    if wants("mixed") {
        faults::mixed(&report, 1_000, 30)?;
    }
    if wants("crowd") {
        presence::crowd(&report, 1_000)?;
    }
    if wants("watch") {
        presence::watch(&report, 1_000)?;
    }
    if wants("flood") {
        hostile::flood(&report)?;
    }
    if wants("sybils") {
        hostile::sybils(&report, 10_000)?;
    }
    if wants("presence") {
        presence::presence(&report, &[(10_000, 1_000), (100_000, 10_000)])?;
    }
    Ok(())
}

fn check(seed: &str) -> Result<(), Box<dyn Error>> {
    let seed = seed.parse()?;
    smart_record_sim_entropy::seed(seed)?;
    let mut faults = 0;
    for name in short::NAMES {
        let world = short::run(name, seed);
        let verdict = scenarios::verdict(&world.measures.faults);
        println!("{name}: {} events, {:016x}, faults: {verdict}", world.handled, world.trace);
        faults += world.measures.faults.all();
    }
    if faults > 0 { Err(format!("a check fails with seed {seed}").into()) } else { Ok(()) }
}

fn trace(seed: &str) -> Result<(), Box<dyn Error>> {
    let seed = seed.parse()?;
    smart_record_sim_entropy::seed(seed)?;
    let mut config = Config::new(seed, 1_000);
    config.sessions = Some(churn::Sessions::HalfLife(HOUR));
    config.plain_percent = 20;
    config.silent_percent = 10;
    let mut world = World::new(config);
    scenarios::publish(&mut world, 100, 2 * HOUR, true, HOUR / 10);
    world.run_until(HOUR);
    scenarios::read_all(&mut world, HOUR / 10);
    println!(
        "{} events, {:016x}, faults: {}",
        world.handled,
        world.trace,
        scenarios::verdict(&world.measures.faults)
    );
    Ok(())
}
