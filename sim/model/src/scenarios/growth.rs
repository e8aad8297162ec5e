//! What reading, writing and keeping a record costs, from 100 to 100,000 nodes that all stay.

use std::error::Error;

use crate::{
    asker::Purpose,
    node::Node,
    report::{Axes, Report, Table, kb, ms, thousands},
    scenarios::{publish, read_all, verdict},
    time::{HOUR, MINUTE},
    world::{Config, World},
    writer::Writer,
};

const RECORDS: usize = 100;

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
            publish(&mut world, RECORDS, 12 * HOUR, false, 10 * MINUTE);
            world.measures.timed_out = 0;
            read_all(&mut world, 5 * MINUTE);
            let m = &world.measures;
            table.row([
                &format!("{silent} %"),
                &parallelism,
                &ms(m.reads.quantile(0.5)),
                &ms(m.reads.quantile(0.99)),
                &format!("{} of {}", m.timed_out, RECORDS),
                &ms(m.writes.quantile(0.5)),
                &ms(m.writes.quantile(0.99)),
                &format!("{:.1}", m.lookups.mean()),
                &verdict(&m.faults),
            ]);
        }
    }
    report.table("widths", &table)
}

/// The load of the scenario `steady` on real nodes (`sim/net`), for a comparison: ten boards of
/// three writers, who write every 20 minutes, read it back, and withdraw each fifth time, and four
/// readers, who read every five minutes.
pub(crate) fn calibrate(report: &Report, sizes: &[usize]) -> Result<(), Box<dyn Error>> {
    const BOARDS: usize = 10;
    let mut table = Table::new([
        "nodes",
        "a server sends, MB an hour",
        "the busiest, MB",
        "connections",
        "requests",
        "reads",
        "complete",
        "get, median ms",
        "publish, median ms",
        "faults",
    ]);
    for size in sizes {
        let mut world = World::new(Config::new(1, *size));
        let readers: Vec<_> = (0..4).map(|_| world.add_client()).collect();
        let mut writers = Vec::new();
        for n in 0..BOARDS * 3 {
            let key = format!("/sr/board/{}", n % BOARDS);
            // Half of the writers are servers.
            let node = if n % 2 == 0 { world.any_server() } else { world.add_client() };
            writers.push(world.add_writer_at(node, &key, 2 * HOUR, true));
        }
        let mut reads = 0;
        for minute in 0..120 {
            for (n, writer) in writers.iter().enumerate() {
                if (minute + n) % 20 == 0 {
                    match (minute + n) % 100 {
                        80 => world.withdraw(*writer),
                        _ => world.publish(*writer),
                    }
                }
            }
            // Who has written reads it back.
            for (n, writer) in writers.iter().enumerate() {
                if (minute + n) % 20 == 1 {
                    let Writer { node, key, .. } = world.writers[*writer];
                    world.begin(node, key, Purpose::Get);
                    reads += 1;
                }
            }
            for (n, reader) in readers.iter().enumerate() {
                if (minute + n) % 5 == 0 {
                    let key = (minute + n) / 5 % BOARDS;
                    world.begin(*reader, key as u32, Purpose::Get);
                    reads += 1;
                }
            }
            world.run_until((minute as u64 + 1) * MINUTE);
        }
        let sent = |node: &Node| node.traffic.sent as f64 / 2e6;
        let servers = world.nodes.iter().filter(|node| node.is_server).map(sent);
        let most = servers.clone().fold(0.0, f64::max);
        let m = &world.measures;
        table.row([
            size,
            &format!("{:.2}", servers.sum::<f64>() / *size as f64),
            &format!("{most:.2}"),
            &m.connections,
            &m.messages,
            &reads,
            &m.complete,
            &ms(m.reads.quantile(0.5)),
            &ms(m.writes.quantile(0.5)),
            &verdict(&m.faults),
        ]);
    }
    report.table("calibration", &table)
}
