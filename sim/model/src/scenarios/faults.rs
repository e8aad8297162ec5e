//! Faults that end: a partition, a restart of all nodes at once, clocks that are off; and a network
//! in which half of the nodes keep the last PUT.

use std::error::Error;

use crate::{
    asker::Purpose,
    ids::{K, Partition, hash},
    node::KeyId,
    report::{Axes, Line, Report, Table, ms},
    scenarios::{mean, publish, read_all, verdict},
    time::{HOUR, MINUTE, SECOND, Time},
    world::{Config, World},
};

/// The share of boards of which the 20 closest servers all have the same.
fn agreeing(world: &World) -> f64 {
    let agrees = |key: usize| {
        let of_key = &world.keys[key].key;
        let mut records = world.closest(key as KeyId, K).into_iter().map(|id| {
            let node = &world.nodes[id as usize];
            node.record(&world.rules, of_key)
        });
        let first = records.next().flatten();
        first.is_some() && records.all(|record| record == first)
    };
    mean((0..world.keys.len()).map(|key| f64::from(u8::from(agrees(key)))))
}

/// Boards of two writers, one on each side of a partition. Both write in it; then it ends.
pub(crate) fn partition(
    report: &Report,
    sizes: &[usize],
    boards: usize,
) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new([
        "nodes",
        "boards that agree after 10 min",
        "20 min",
        "30 min",
        "1 h",
        "2 h",
        "all agree after",
        "faults",
    ]);
    let mut lines: Vec<Line> = Vec::new();
    for size in sizes {
        let mut world = World::new(Config::new(1, *size));
        for node in &mut world.nodes {
            node.side = hash(node.salt, 21) & 1 == 1;
        }
        for board in 0..boards {
            for side in [false, true] {
                let writer = world.add_writer(&format!("/sr/board/{board}"), 36 * HOUR, true);
                let node = world.writers[writer].node;
                world.nodes[node as usize].side = side;
                world.publish(writer);
            }
            world.run_until(world.now + SECOND);
        }
        world.run_until(HOUR);
        world.partition = Partition { begun: Some(world.now), ended: None };
        // A day apart; everybody writes anew in it.
        world.run_until(13 * HOUR);
        for writer in 0..world.writers.len() {
            world.publish(writer);
            world.run_until(world.now + SECOND);
        }
        world.run_until(25 * HOUR);
        let healed = world.now;
        world.partition.ended = Some(healed);
        let mut points = Vec::new();
        let mut all_at = None;
        let mut at = healed;
        while at <= healed + 4 * HOUR {
            world.run_until(at);
            let share = agreeing(&world);
            points.push(((at - healed) as f64 / MINUTE as f64, 100.0 * share));
            if share >= 1.0 && all_at.is_none() {
                all_at = Some(at - healed);
            }
            at += 10 * MINUTE;
        }
        read_all(&mut world, 10 * MINUTE);
        let share = |minutes: Time| {
            let found = points.iter().find(|point| point.0 >= minutes as f64);
            format!("{:.0} %", found.map_or(0.0, |point| point.1))
        };
        table.row([
            size,
            &share(10),
            &share(20),
            &share(30),
            &share(60),
            &share(120),
            &all_at.map_or("not in 4 h".to_owned(), |at| format!("{} min", at / MINUTE)),
            &verdict(&world.measures.faults),
        ]);
        lines.push((format!("{size} nodes"), points));
    }
    report.table("healing", &table)?;
    let title = "Boards of which the 20 closest nodes have the same, after a partition of a day";
    let axes = Axes { title, x: "minutes after it has ended", y: "per cent", is_log: false };
    report.plot("healing", axes, &lines)
}

/// All nodes restart at once with empty stores. What is there again comes from the writers.
pub(crate) fn restart(report: &Report, size: usize, records: usize) -> Result<(), Box<dyn Error>> {
    let mut world = World::new(Config::new(1, size));
    publish(&mut world, records, 24 * HOUR, true, HOUR);
    world.run_until(3 * HOUR);
    world.restart_all();
    let begun = world.now;
    let mut table =
        Table::new(["minutes after the restart", "records with a copy", "copies, mean"]);
    let mut points = Vec::new();
    for minutes in [0, 10, 20, 30, 40, 50, 60, 90, 120] {
        world.run_until(begun + minutes * MINUTE);
        let copies: Vec<_> = (0..records).filter_map(|writer| world.copies(writer)).collect();
        let there = copies.iter().filter(|copies| copies.all > 0).count();
        let all = mean(copies.iter().map(|copies| copies.all as f64));
        table.row([&minutes, &format!("{there} of {records}"), &format!("{all:.1}")]);
        points.push((minutes as f64, 100.0 * there as f64 / records as f64));
    }
    read_all(&mut world, 10 * MINUTE);
    println!("faults after the restart: {}", verdict(&world.measures.faults));
    report.table("restart", &table)?;
    let title = "Records that are there again after all nodes have restarted with empty stores";
    let axes = Axes { title, x: "minutes", y: "per cent", is_log: false };
    report.plot("restart", axes, &[("with a copy".to_owned(), points)])
}

/// Boards in networks of which a part keeps the last PUT, and in such whose clocks are off.
pub(crate) fn mixed(report: &Report, size: usize, boards: usize) -> Result<(), Box<dyn Error>> {
    const WRITERS: usize = 5;
    let mut table = Table::new([
        "network",
        "get, median ms",
        "publish, median ms",
        "writers found in a board of five, mean",
        "copies on nodes of both kinds, mean",
        "complete readings",
        "faults",
    ]);
    for (name, plain, skew_ms) in [
        ("ours alone", 0, 0),
        ("half keep the last PUT", 50, 0),
        ("nine in ten keep the last PUT", 90, 0),
        ("ours, clocks off by up to 2 min", 0, 120_000),
        ("ours, clocks off by up to 4 min", 0, 240_000),
    ] {
        let mut config = Config::new(1, size);
        config.plain_percent = plain;
        config.skew_ms = skew_ms;
        let mut world = World::new(config);
        for _ in 0..WRITERS {
            for board in 0..boards {
                let writer = world.add_writer(&format!("/sr/board/{board}"), 6 * HOUR, true);
                world.publish(writer);
                world.run_until(world.now + SECOND);
            }
        }
        world.run_until(6 * HOUR);
        for writer in 0..world.writers.len() {
            if writer % 7 == 0 {
                world.withdraw(writer);
                world.run_until(world.now + SECOND);
            }
        }
        world.run_until(10 * HOUR);
        let live: Vec<_> = (0..world.writers.len())
            .filter(|writer| world.writers[*writer].withdrawn_at.is_none())
            .collect();
        let copies: Vec<_> = live.iter().filter_map(|writer| world.copies(*writer)).collect();
        world.measures.complete = 0;
        world.measures.found = 0;
        for key in 0..boards {
            let reader = world.add_client();
            world.begin(reader, key as KeyId, Purpose::Get);
            world.run_until(world.now + SECOND);
        }
        world.run_until(world.now + MINUTE);
        let m = &world.measures;
        table.row([
            &name,
            &ms(m.reads.quantile(0.5)),
            &ms(m.writes.quantile(0.5)),
            &format!("{} of {}", m.found, live.len()),
            &format!("{:.1}", mean(copies.iter().map(|copies| copies.all as f64))),
            &format!("{} of {boards}", m.complete),
            &verdict(&m.faults),
        ]);
    }
    report.table("mixed", &table)
}
