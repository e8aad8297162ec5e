//! What reading, writing and keeping a record costs, from 100 to 100,000 nodes that all stay.

use std::error::Error;

use crate::{
    report::{Axes, Report, Table, kb, ms, thousands},
    scenarios::{publish, read_all, verdict},
    time::{HOUR, MINUTE},
    world::{Config, World},
};

const RECORDS: usize = 400;

pub(crate) fn run(
    report: &Report,
    sizes: &[usize],
    silent_percent: u64,
) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new([
        "nodes",
        "get, median ms",
        "get, 99 % ms",
        "publish, median ms",
        "publish, 99 % ms",
        "requests of a lookup",
        "a get, KB",
        "a record and hour, KB",
        "a node and hour with a record for each, KB",
        "found of what was written",
        "faults",
    ]);
    let (mut gets, mut publishes, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
    for size in sizes {
        let mut config = Config::new(1, *size);
        config.silent_percent = silent_percent;
        let mut world = World::new(config);
        publish(&mut world, RECORDS, 12 * HOUR, true, 10 * MINUTE);
        // Replication brings a 21st copy in the first hour.
        world.run_until(2 * HOUR);
        let before = (world.measures.bytes, world.measures.puts);
        world.run_until(4 * HOUR);
        let per_record = (world.measures.bytes - before.0) as f64 / 2.0 / RECORDS as f64;
        let before = world.measures.bytes;
        world.measures.lookups = Default::default();
        read_all(&mut world, 5 * MINUTE);
        let upkeep = per_record * RECORDS as f64 * 345.0 / 3600.0;
        let of_get = ((world.measures.bytes - before) as f64 - upkeep) / RECORDS as f64;
        let m = &world.measures;
        let of_lookup = m.lookups.mean();
        let found = RECORDS as u64 - m.faults.lost;
        table.row([
            &thousands(*size as u64),
            &ms(m.reads.quantile(0.5)),
            &ms(m.reads.quantile(0.99)),
            &ms(m.writes.quantile(0.5)),
            &ms(m.writes.quantile(0.99)),
            &format!("{of_lookup:.1}"),
            &kb(of_get),
            &kb(per_record),
            &kb(per_record * 2.0),
            &format!("{found} of {RECORDS}"),
            &verdict(&m.faults),
        ]);
        gets.push((*size as f64, m.reads.quantile(0.5) as f64 / 1e6));
        publishes.push((*size as f64, m.writes.quantile(0.5) as f64 / 1e6));
        lookups.push((*size as f64, of_lookup));
    }
    let name = if silent_percent == 0 { "growth" } else { "silent" };
    report.table(name, &table)?;
    if silent_percent == 0 {
        let lines = [("get, median".to_owned(), gets), ("publish, median".to_owned(), publishes)];
        let axes =
            Axes { title: "Latency", x: "nodes", y: "seconds until it returns", is_log: true };
        report.plot("latency", axes, &lines)?;
        let lines = [("until all of the 20 closest were asked".to_owned(), lookups)];
        let axes = Axes { title: "Requests of a lookup", x: "nodes", y: "requests", is_log: true };
        report.plot("lookups", axes, &lines)?;
    }
    Ok(())
}

/// What other widths of a lookup than the default would do, with and without silent nodes.
pub(crate) fn widths(report: &Report, size: usize) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new([
        "silent",
        "requests at a time",
        "get, median ms",
        "get, 99 % ms",
        "gets that end at their deadline",
        "publish, median ms",
        "publish, 99 % ms",
        "requests of a lookup",
        "faults",
    ]);
    for silent in [0, 10, 33] {
        for parallelism in [3, 6, 10, 16] {
            let mut config = Config::new(1, size);
            config.silent_percent = silent;
            config.parallelism = parallelism;
            config.replicate = None;
            let mut world = World::new(config);
            publish(&mut world, RECORDS / 2, 12 * HOUR, false, 10 * MINUTE);
            world.measures.timed_out = 0;
            read_all(&mut world, 5 * MINUTE);
            let m = &world.measures;
            table.row([
                &format!("{silent} %"),
                &parallelism,
                &ms(m.reads.quantile(0.5)),
                &ms(m.reads.quantile(0.99)),
                &format!("{} of {}", m.timed_out, RECORDS / 2),
                &ms(m.writes.quantile(0.5)),
                &ms(m.writes.quantile(0.99)),
                &format!("{:.1}", m.lookups.mean()),
                &verdict(&m.faults),
            ]);
        }
    }
    report.table("widths", &table)
}
