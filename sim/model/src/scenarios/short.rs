//! The short set: small networks, in each of which no check may fail.

use crate::{
    asker::Purpose,
    churn::Sessions,
    ids::{Partition, hash},
    time::{HOUR, MINUTE, SECOND},
    world::{Config, World},
};

pub(crate) const NAMES: [&str; 6] = ["steady", "churn", "silent", "mixed", "clocks", "partition"];

const SERVERS: usize = 400;
const BOARDS: usize = 20;
const WRITERS: usize = 3;

/// Boards of three writers, of which some withdraw, and readers, for five hours.
pub(crate) fn run(name: &str, seed: u64) -> World {
    let mut config = Config::new(seed, SERVERS);
    match name {
        "churn" => config.sessions = Some(Sessions::HalfLife(2 * HOUR)),
        "silent" => config.silent_percent = 33,
        "mixed" => config.plain_percent = 50,
        "clocks" => config.skew_ms = 120_000,
        _ => {}
    }
    let mut world = World::new(config);
    for node in &mut world.nodes {
        node.side = name == "partition" && hash(node.salt, 21) % 5 < 2;
    }
    for _ in 0..WRITERS {
        for board in 0..BOARDS {
            let writer = world.add_writer(&format!("/sr/board/{board}"), 2 * HOUR, true);
            world.publish(writer);
            world.run_until(world.now + 5 * SECOND);
        }
    }
    for round in 1..=20 {
        world.run_until(round * 15 * MINUTE);
        if name == "partition" && round == 4 {
            world.partition = Partition { begun: Some(world.now), ended: None };
        }
        if name == "partition" && round == 12 {
            world.partition.ended = Some(world.now);
        }
        if round == 9 {
            for writer in (0..world.writers.len()).step_by(7) {
                world.withdraw(writer);
            }
        }
        // Nobody is asked for what it does not reach, nor right after that.
        if name == "partition" && (4..15).contains(&round) {
            continue;
        }
        for key in 0..BOARDS {
            let reader = world.add_client();
            world.begin(reader, key as u32, Purpose::Get);
        }
    }
    world.run_until(world.now + MINUTE);
    world
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        ids::NodeId,
        node::{Node, near},
    };

    #[test]
    fn no_check_fails_in_the_short_set() {
        let mut traces = BTreeSet::new();
        for name in NAMES {
            let world = run(name, 1);
            let faults = &world.measures.faults;
            assert_eq!(faults.all(), 0, "{name}: {faults:?}");
            assert!(traces.insert(world.trace), "{name} is as another");
        }
    }

    #[test]
    fn a_seed_is_a_run() {
        let trace = |seed| {
            let world = run("churn", seed);
            (world.trace, world.handled)
        };
        assert_eq!(trace(1), trace(1));
        assert_ne!(trace(1), trace(2));
    }

    #[test]
    fn a_join_that_forgets_is_found() {
        let lost = |forgets| {
            let mut world = World::new(Config::new(3, 200));
            world.rules.forgets = forgets;
            let writer = world.add_writer("/sr/a", 4 * HOUR, true);
            for _ in 0..2 {
                world.publish(writer);
                world.run_until(world.now + MINUTE);
            }
            let reader = world.add_client();
            world.begin(reader, 0, Purpose::Get);
            world.run_until(world.now + MINUTE);
            world.measures.faults.lost
        };
        assert_eq!((lost(false), lost(true)), (0, 1));
    }

    /// How many of the closest servers have a record, three hours after 60 servers have joined that
    /// are closer than those that it was sent to.
    fn moved(replicate: Option<u64>) -> Option<usize> {
        let mut config = Config::new(3, 1_000);
        config.replicate = replicate;
        let mut world = World::new(config);
        let writer = world.add_writer("/sr/moved", 40 * HOUR, false);
        world.publish(writer);
        world.run_until(MINUTE);
        assert_eq!(world.copies(writer).map(|copies| copies.close), Some(20));
        let point = world.keys[0].point;
        let nearest: NodeId = world.closest(0, 1)[0];
        let bits = (world.nodes[nearest as usize].place ^ point).leading_zeros() + 1;
        let mut from = 0;
        for _ in 0..60 {
            let closer: Node = near(3, point, bits, &mut from);
            world.add(closer);
        }
        world.run_until(3 * HOUR);
        world.copies(writer).map(|copies| copies.close)
    }

    #[test]
    fn replication_moves_a_record_to_those_who_have_become_the_closest() {
        assert_eq!(moved(Some(HOUR)), Some(20));
        assert_eq!(moved(None), Some(0));
    }
}
