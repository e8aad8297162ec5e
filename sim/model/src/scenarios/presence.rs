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

/// Each client keeps a document of its own alive, under a key of its own. The table is written anew
/// after each size.
pub(crate) fn presence(report: &Report, sizes: &[(usize, usize)]) -> Result<(), Box<dyn Error>> {
    const READS: u64 = 500;
    let mut table = Table::new([
        "clients",
        "servers",
        "records of a server, median",
        "most",
        "a server and hour, KB",
        "refreshes an hour",
        "turns of replication an hour",
        "refresh, median ms",
        "99 % ms",
        "get, median ms",
        "99 % ms",
        "found of 500 looked for",
        "faults",
    ]);
    for (clients, servers) in sizes.iter().copied() {
        let begun = Instant::now();
        let mut config = Config::new(1, servers);
        config.clients_forget = true;
        // As if they had stored their records for long.
        config.first_turn = Some(MINUTE);
        let mut world = World::new(config);
        for n in 0..clients {
            let writer = world.add_writer(&format!("/sr/presence/{n}"), 2 * HOUR, true);
            world.be_published(writer);
        }
        // Turns begin; then six minutes are looked at.
        world.run_until(2 * MINUTE);
        let since = world.now;
        world.reset_traffic();
        world.measures = Default::default();
        world.run_until(since + SHOWN);
        let traffic = world.traffic_per_hour(since);
        let hourly = |count: u64| thousands(count * HOUR / SHOWN);
        let (turns, refreshes) = (world.measures.turns, world.measures.refreshes);
        let usage = |store: &Store| match store {
            Store::Ours(store) => store.usage().records,
            Store::Empty | Store::Plain(_) => 0,
        };
        let mut stored: Vec<_> =
            world.nodes[..servers].iter().map(|node| usage(&node.store)).collect();
        stored.sort_unstable();
        for _ in 0..READS {
            let reader = world.add_client();
            let key = world.random.below(clients as u64) as u32;
            world.begin(reader, key, Purpose::Get);
            world.run_until(world.now + SECOND / 10);
        }
        world.run_until(world.now + MINUTE);
        let m = &world.measures;
        table.row([
            &thousands(clients as u64),
            &thousands(servers as u64),
            &stored[servers / 2],
            &stored[servers - 1],
            &kb(traffic),
            &hourly(refreshes),
            &hourly(turns),
            &ms(m.refreshed.quantile(0.5)),
            &ms(m.refreshed.quantile(0.99)),
            &ms(m.reads.quantile(0.5)),
            &ms(m.reads.quantile(0.99)),
            &m.found,
            &verdict(&m.faults),
        ]);
        eprintln!("presence of {clients}: {:?}, {} events", begun.elapsed(), world.handled);
        report.table("presence", &table)?;
    }
    Ok(())
}

/// A client that watches a record, which changes every 47 seconds.
pub(crate) fn watch(report: &Report, servers: usize) -> Result<(), Box<dyn Error>> {
    const CHANGES: u64 = 90;
    const PAUSE: Time = 47 * SECOND;
    const STEP: Time = SECOND / 20;
    let mut table = Table::new([
        "interval, s",
        "a change is shown after, median ms",
        "99 % ms",
        "lookups an hour",
        "the watcher sends and receives, MB an hour",
    ]);
    for interval in [1, 2, 5, 10, 30] {
        let mut world = World::new(Config::new(1, servers));
        let writer = world.add_writer("/sr/watched", 12 * HOUR, true);
        world.publish(writer);
        world.run_until(2 * MINUTE);
        let watcher = world.add_client();
        world.measures = Default::default();
        world.writers[writer].changed_at = None;
        let begun = world.now;
        let (mut change_at, mut due, mut returned) = (begun + PAUSE, begun, 0);
        while world.now < begun + PAUSE * CHANGES {
            if world.now >= change_at {
                world.publish(writer);
                change_at += PAUSE;
            }
            if world.measures.watches > returned {
                returned = world.measures.watches;
                due = world.now + interval * SECOND;
            }
            if world.now >= due {
                world.begin(watcher, 0, Purpose::Watch);
                due = Time::MAX;
            }
            world.run_until(world.now + STEP);
        }
        let hours = (world.now - begun) as f64 / HOUR as f64;
        let traffic = world.nodes[watcher as usize].traffic;
        let m = &world.measures;
        table.row([
            &interval,
            &ms(m.changes.quantile(0.5)),
            &ms(m.changes.quantile(0.99)),
            &thousands((m.watches as f64 / hours) as u64),
            &format!("{:.1}", (traffic.sent + traffic.received) as f64 / hours / 1e6),
        ]);
    }
    report.table("watch", &table)
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
