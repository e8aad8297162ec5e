//! What reading, writing and keeping a record costs, from 100 to 100,000 nodes that all stay.

use std::error::Error;

use crate::{
    asker::Purpose,
    ids::NodeId,
    node::{KeyId, Node},
    report::{Axes, Report, Table, kb, ms, thousands},
    scenarios::{publish, read_all, verdict},
    time::{HOUR, MILLISECOND, MINUTE, Time},
    world::{Config, World},
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

/// The load of the scenario `steady` on real nodes (`sim/net`), for a comparison over six hours:
/// ten boards of three writers, who write every 20 minutes and withdraw each fifth time, and four
/// readers, who read a board every five minutes. The first half hour does not count. Prints also
/// how far the figures are from those of real nodes.
pub(crate) fn calibrate(report: &Report, sizes: &[usize]) -> Result<(), Box<dyn Error>> {
    const BOARDS: usize = 10;
    const BEGIN: Time = 10 * MINUTE;
    const COUNTS: Time = 30 * MINUTE;
    const END: Time = 6 * HOUR;
    let mut table = Table::new([
        "servers",
        "a server sends, MB an hour",
        "the busiest, MB an hour",
        "connections an hour",
        "requests an hour",
        "reads",
        "complete",
        "get, median ms",
        "get, 99 % ms",
        "publish, median ms",
        "publish, 99 % ms",
        "faults",
    ]);
    let mut deviation = Table::new(["servers", "figure", "real", "modelled", "modelled / real"]);
    for size in sizes {
        let mut world = World::new(Config::new(1, *size));
        let mut plan = Vec::new();
        for n in 0..BOARDS * 3 {
            let key = format!("/sr/boards/{}", n / 3);
            // Half of the writers are servers.
            let node = if n % 2 == 0 { (n / 2) as u32 } else { world.add_client() };
            let writer = world.add_writer_at(node, &key, 2 * HOUR, true);
            let first = BEGIN + world.random.below(20 * MINUTE);
            let writes = (1..).map(|n| (first + 20 * MINUTE * (n - 1), n));
            plan.extend(
                writes
                    .take_while(|(at, _)| *at < END)
                    .map(|(at, n)| (at, Act::Write(writer, n % 5 == 0))),
            );
        }
        for _ in 0..4 {
            let reader = world.add_client();
            let mut at = BEGIN + world.random.below(5 * MINUTE);
            while at < END {
                plan.push((at, Act::Read(reader, world.random.below(BOARDS as u64) as u32)));
                at += 5 * MINUTE;
            }
        }
        plan.push((COUNTS, Act::Count));
        plan.sort_by_key(|(at, _)| *at);
        let mut reads = 0;
        for (at, act) in plan {
            world.run_until(at);
            match act {
                Act::Write(writer, false) => world.publish(writer),
                Act::Write(writer, true) => world.withdraw(writer),
                Act::Read(reader, key) => world.begin(reader, key, Purpose::Get),
                Act::Count => {
                    world.reset_traffic();
                    world.measures = Default::default();
                    reads = 0;
                }
            }
            reads += u64::from(matches!(act, Act::Read(..)));
        }
        world.run_until(END);
        let hours = (END - COUNTS) as f64 / HOUR as f64;
        let sent = |node: &Node| node.traffic.sent as f64 / hours / 1e6;
        let servers = world.nodes.iter().filter(|node| node.is_server).map(sent);
        let most = servers.clone().fold(0.0, f64::max);
        let m = &world.measures;
        let rounded = |value: f64| thousands(value.round() as u64);
        let hourly = |count: u64| rounded(count as f64 / hours);
        let mean = servers.clone().sum::<f64>() / *size as f64;
        let millis = |time: Time| (time / MILLISECOND) as f64;
        let modelled = [
            mean,
            m.connections as f64 / hours,
            m.messages as f64 / hours,
            millis(m.reads.quantile(0.5)),
            millis(m.reads.quantile(0.99)),
            millis(m.writes.quantile(0.5)),
            millis(m.writes.quantile(0.99)),
        ];
        if let Some((_, real)) = REAL.iter().find(|(servers, _)| servers == size) {
            let shown = |value: f64| match value {
                ..10.0 => format!("{value:.4}"),
                _ => rounded(value),
            };
            for (figure, (real, modelled)) in FIGURES.iter().zip(real.iter().zip(modelled)) {
                let ratio = format!("{:.2}", modelled / real);
                let servers = thousands(*size as u64);
                deviation.row([&servers, figure, &shown(*real), &shown(modelled), &ratio]);
            }
        }
        table.row([
            &thousands(*size as u64),
            &format!("{mean:.3}"),
            &format!("{most:.2}"),
            &hourly(m.connections),
            &hourly(m.messages),
            &reads,
            &m.complete,
            &ms(m.reads.quantile(0.5)),
            &ms(m.reads.quantile(0.99)),
            &ms(m.writes.quantile(0.5)),
            &ms(m.writes.quantile(0.99)),
            &verdict(&m.faults),
        ]);
    }
    report.table("calibration", &table)?;
    report.table("deviation", &deviation)
}

/// What is compared with real nodes.
const FIGURES: [&str; 7] = [
    "a server sends, MB an hour",
    "connections an hour",
    "requests an hour",
    "get, median ms",
    "get, 99 % ms",
    "publish, median ms",
    "publish, 99 % ms",
];

/// [`FIGURES`] of so many real servers, as printed by `scripts/sim run steady --seed 1 --servers N
/// --boards 10 --minutes 360 --bootstrap 600`, with `--tables full` for the last. Those of an hour
/// are the means of the hours after the first, in which the nodes start.
const REAL: [(usize, [f64; 7]); 3] = [
    (24, [0.918, 3_954.0, 6_176.0, 1_419.0, 3_191.0, 1_569.0, 2_796.0]),
    (1_000, [0.042, 10_869.0, 8_109.0, 1_962.0, 4_903.0, 1_811.0, 4_004.0]),
    (10_000, [0.0038, 8_860.0, 8_558.0, 2_565.0, 4_827.0, 2_031.0, 4_392.0]),
];

/// A step of the load for the comparison.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A writer writes, or withdraws.
    Write(usize, bool),
    Read(NodeId, KeyId),
    /// What follows counts.
    Count,
}
