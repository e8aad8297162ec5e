//! The scenarios: each is a file that builds a network, lets time pass and says what came of it.

pub(crate) mod churn;
pub(crate) mod faults;
pub(crate) mod growth;
pub(crate) mod hostile;
pub(crate) mod presence;
pub(crate) mod short;

use crate::{
    asker::Purpose,
    measure::Faults,
    time::{SECOND, Time},
    world::World,
};

/// Publishes records of one writer each, spread over a time.
pub(crate) fn publish(world: &mut World, count: usize, ttl: Time, keeps: bool, over: Time) {
    let begun = world.now;
    for n in 0..count {
        let writer = world.add_writer(&format!("/sr/records/{n}"), ttl, keeps);
        world.publish(writer);
        world.run_until(begun + over * (n as Time + 1) / count as Time);
    }
    world.run_until(world.now + 45 * SECOND);
}

/// A new client reads each record once, spread over a time.
pub(crate) fn read_all(world: &mut World, over: Time) {
    let (begun, count) = (world.now, world.keys.len());
    for key in 0..count {
        let reader = world.add_client();
        world.begin(reader, key as u32, Purpose::Get);
        world.run_until(begun + over * (key as Time + 1) / count as Time);
    }
    world.run_until(world.now + 45 * SECOND);
}

/// What the checks have found, as a cell of a table.
pub(crate) fn verdict(faults: &Faults) -> String {
    let Faults { lost, expired, withdrawn, falsely_complete } = faults;
    match faults.all() {
        0 => "none".to_owned(),
        _ => format!(
            "lost {lost}, expired {expired}, withdrawn {withdrawn}, falsely complete {falsely_complete}"
        ),
    }
}

/// The mean of some numbers.
pub(crate) fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len().max(1) as f64;
    numbers.sum::<f64>() / count
}
