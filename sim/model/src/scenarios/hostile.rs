//! A flood of spaces on a board, and a ring of sybils around a key.

use std::error::Error;

use libp2p_identity::Keypair;
use libp2p_smart_record::{Dict, Limits, SmartRecord, SpaceSigner};

use crate::{
    asker::{CHUNK, Purpose},
    ids::hash,
    node::near,
    report::{Report, Table},
    scenarios::verdict,
    time::{HOUR, MINUTE, SECOND, duration},
    world::{Config, World},
};

/// Somebody puts spaces of ever new keys on a board of a hundred honest writers.
pub(crate) fn flood(report: &Report) -> Result<(), Box<dyn Error>> {
    const HONEST: usize = 100;
    let mut table = Table::new([
        "spaces of the flood",
        "stamps of the honest, bits",
        "honest writers found before",
        "after",
        "an hour later, they refresh",
        "faults that the checks name",
    ]);
    for (flood, bits) in [(500, 0), (1_000, 0), (2_000, 0), (8_000, 0), (8_000, 19)] {
        let mut world = World::new(Config::new(1, 1_000));
        for _ in 0..HONEST {
            let writer = world.add_writer("/sr/board", 12 * HOUR, true);
            world.stamp(writer, bits);
            world.publish(writer);
            world.run_until(world.now + 2 * SECOND);
        }
        world.run_until(world.now + HOUR);
        let before = found(&mut world);
        let replicas = world.closest(0, 20);
        let key = world.keys[0].key.clone();
        let mut record = SmartRecord::new(key.clone());
        for n in 0..flood {
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&hash(99, n).to_be_bytes());
            let keypair = Keypair::ed25519_from_bytes(secret)?;
            let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
            let document: Dict = [("spam", n as i64)].into_iter().collect();
            signer.merge(document, world.wall_clock(), duration(12 * HOUR))?;
            record.join(signer.record(world.wall_clock()))?;
            if record.spaces().len() >= 60 || n + 1 == flood {
                for chunk in record.chunks(CHUNK) {
                    let chunk = chunk.into();
                    replicas.iter().for_each(|id| world.store(*id, 0, &chunk));
                }
                record = SmartRecord::new(key.clone());
                world.run_until(world.now + SECOND / 10);
            }
        }
        let after = found(&mut world);
        world.run_until(world.now + HOUR + 10 * MINUTE);
        let later = found(&mut world);
        table.row([
            &flood,
            &bits,
            &format!("{before} of {HONEST}"),
            &after,
            &later,
            &verdict(&world.measures.faults),
        ]);
    }
    report.table("flood", &table)
}

/// How many writers of the first key a new client finds.
fn found(world: &mut World) -> u64 {
    let before = world.measures.found;
    let reader = world.add_client();
    world.begin(reader, 0, Purpose::Get);
    world.run_until(world.now + MINUTE);
    world.measures.found - before
}

/// Ids closer to a key than those of all others, from a few networks. They acknowledge everything,
/// keep nothing, and answer that there is nothing.
pub(crate) fn sybils(report: &Report, servers: usize) -> Result<(), Box<dyn Error>> {
    const READS: usize = 50;
    let mut table = Table::new([
        "sybils",
        "their networks",
        "they name",
        "honest copies after a publish",
        "found of 50 reads",
        "readings that claim to be complete and are empty",
        "the last get, ms",
    ]);
    for (count, networks, lies) in [
        (0, 1, false),
        (20, 1, false),
        (20, 1, true),
        (20, 5, false),
        (20, 20, false),
        (20, 20, true),
        (40, 10, false),
        (100, 10, true),
        (100, 100, false),
    ] {
        let mut config = Config::new(1, servers);
        config.has_subnets = true;
        config.sybils_lie = lies;
        let mut world = World::new(config);
        world.sybil_subnets = networks;
        let key = world.key("/sr/target");
        let point = world.keys[key as usize].point;
        let nearest = world.closest(key, 1)[0];
        let bits = (world.nodes[nearest as usize].place ^ point).leading_zeros() + 1;
        let mut from = 0;
        for _ in 0..count {
            let sybil = near(1, point, bits, &mut from);
            world.add_sybil(sybil);
        }
        world.run_until(HOUR);
        // A client that has looked up other keys before has an estimate of the network's size.
        let writer = world.add_writer("/sr/target", 12 * HOUR, true);
        let node = world.writers[writer].node;
        warm_up(&mut world, node);
        world.publish(writer);
        world.run_until(world.now + MINUTE);
        let copies = world.copies(writer).unwrap_or_default();
        world.measures.found = 0;
        let mut empty = 0;
        world.measures.reads = Default::default();
        for _ in 0..READS {
            let reader = world.add_client();
            warm_up(&mut world, reader);
            world.measures.reads = Default::default();
            let before = world.measures.empty_and_complete;
            world.begin(reader, key, Purpose::Get);
            world.run_until(world.now + MINUTE);
            empty += world.measures.empty_and_complete - before;
        }
        table.row([
            &count,
            &networks,
            &if count == 0 {
                ""
            } else if lies {
                "each other"
            } else {
                "whom they know"
            },
            &copies.all,
            &world.measures.found,
            &empty,
            &crate::report::ms(world.measures.reads.quantile(0.5)),
        ]);
    }
    report.table("sybils", &table)
}

/// Lets a client look up a few keys.
fn warm_up(world: &mut World, client: u32) {
    for n in 0..6 {
        let key = world.key(&format!("/sr/other/{n}"));
        world.begin(client, key, Purpose::Get);
        world.run_until(world.now + 15 * SECOND);
    }
}
