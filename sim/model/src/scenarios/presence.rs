//! The presence of a hundred thousand clients, and a large board with a crowd of readers.

use std::{error::Error, time::Instant};

use crate::{
    asker::Purpose,
    node::Store,
    report::{Report, Table, kb, ms, thousands},
    scenarios::{mean, verdict},
    time::{HOUR, MINUTE, SECOND, Time},
    world::{Config, World},
};

/// How long the traffic of presence is looked at.
const SHOWN: Time = 6 * MINUTE;

/// Each client keeps a document of its own alive, under a key of its own.
pub(crate) fn presence(
    report: &Report,
    servers: usize,
    clients: usize,
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let mut config = Config::new(1, servers);
    config.clients_forget = true;
    let mut world = World::new(config);
    for n in 0..clients {
        let writer = world.add_writer(&format!("/sr/presence/{n}"), 2 * HOUR, true);
        world.be_published(writer);
    }
    // Turns begin; then six minutes are looked at.
    world.run_until(2 * MINUTE);
    let since = world.now;
    world.reset_traffic();
    let before = world.measures.clone();
    world.run_until(since + SHOWN);
    let traffic = world.traffic_per_hour(since);
    let m = &world.measures;
    let (turns, refreshes) = (m.turns - before.turns, m.refreshes - before.refreshes);
    let usage = |store: &Store| match store {
        Store::Ours(store) => store.usage().records,
        Store::Empty | Store::Plain(_) => 0,
    };
    let mut stored: Vec<_> = world.nodes[..servers].iter().map(|node| usage(&node.store)).collect();
    stored.sort_unstable();
    for _ in 0..500 {
        let reader = world.add_client();
        let key = world.random.below(clients as u64) as u32;
        world.begin(reader, key, Purpose::Get);
        world.run_until(world.now + SECOND / 10);
    }
    world.run_until(world.now + MINUTE);
    let m = &world.measures;
    let mut table = Table::new(["presence", "figure"]);
    table.row([
        &"clients, servers",
        &format!("{}, {}", thousands(clients as u64), thousands(servers as u64)),
    ]);
    table.row([
        &"records of a server, median and most",
        &format!("{} and {}", stored[servers / 2], stored[servers - 1]),
    ]);
    table.row([&"traffic of a server and hour, KB", &kb(traffic)]);
    table.row([
        &"refreshes and turns of replication in the hour",
        &format!("{} and {}", thousands(refreshes), thousands(turns)),
    ]);
    table.row([
        &"publish, median and 99 %, ms",
        &format!("{} and {}", ms(m.writes.quantile(0.5)), ms(m.writes.quantile(0.99))),
    ]);
    table.row([
        &"get, median and 99 %, ms",
        &format!("{} and {}", ms(m.reads.quantile(0.5)), ms(m.reads.quantile(0.99))),
    ]);
    table.row([&"found of 500 clients looked for", &m.found]);
    table.row([&"faults", &verdict(&m.faults)]);
    eprintln!("presence: {:?}, {} events", begun.elapsed(), world.handled);
    report.table("presence", &table)
}

/// One board that many read at the same time.
pub(crate) fn crowd(report: &Report, servers: usize) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new([
        "writers of the board",
        "readers within a minute",
        "get, median ms",
        "get, 99 % ms",
        "requests of a get",
        "a get, KB",
        "complete",
        "writers found, of all that each should find",
        "sent by a replica, KB",
        "faults",
    ]);
    for (writers, readers) in [(10, 300), (100, 100), (300, 60)] {
        let mut world = World::new(Config::new(1, servers));
        for _ in 0..writers {
            let writer = world.add_writer("/sr/board", 12 * HOUR, true);
            world.publish(writer);
            world.run_until(world.now + 2 * SECOND);
        }
        world.run_until(world.now + 2 * HOUR);
        world.reset_traffic();
        let before = world.measures.clone();
        world.measures.found = 0;
        for _ in 0..readers {
            let reader = world.add_client();
            world.begin(reader, 0, Purpose::Get);
            world.run_until(world.now + MINUTE / readers);
        }
        world.run_until(world.now + MINUTE);
        let m = &world.measures;
        let replicas = world.closest(0, 20);
        let sent = mean(replicas.iter().map(|id| world.nodes[*id as usize].traffic.sent as f64));
        let requests = (m.requests - before.requests) as f64 / readers as f64;
        table.row([
            &writers,
            &readers,
            &ms(m.reads.quantile(0.5)),
            &ms(m.reads.quantile(0.99)),
            &format!("{requests:.0}"),
            &kb((m.bytes - before.bytes) as f64 / readers as f64),
            &format!("{} of {readers}", m.complete),
            &format!("{:.2} %", 100.0 * m.found as f64 / (readers as f64 * f64::from(writers))),
            &kb(sent),
            &verdict(&m.faults),
        ]);
    }
    report.table("crowd", &table)
}
