//! Copies alive over a day in which nodes come and go, with and without the writers; and what the
//! intervals of refreshing and replication do to that.
//!
//! Nodes that leave take their copies along, those that join bring none: what returns with its
//! store is not modelled. Nobody reads before the end, because reads repair.

use std::error::Error;

use crate::{
    churn::Sessions,
    measure::Faults,
    report::{Axes, Line, Report, Table, kb},
    scenarios::{mean, publish, read_all, verdict},
    time::{HOUR, MINUTE, Time},
    world::{Config, World},
    writer::LONG,
};

/// What a run has.
#[derive(Clone, Copy, Debug)]
struct Setting {
    servers: usize,
    records: usize,
    sessions: Sessions,
    refresh: Time,
    replicate: Option<Time>,
    /// Whether writers stay and refresh, or leave once they have published.
    stays: bool,
    hours: Time,
}

/// Hour, mean copies, copies among the 20 closest, fewest.
type Sample = (f64, f64, f64, f64);

/// What comes of it.
struct Day {
    samples: Vec<Sample>,
    /// Records of which nobody has a copy at the end.
    gone: usize,
    /// The fewest copies of any record at any time.
    fewest: usize,
    /// Records that the read at the end does not find.
    missed: u64,
    kb_per_record_hour: f64,
    left: usize,
    faults: Faults,
    handled: u64,
}

fn day(setting: Setting) -> Day {
    let mut config = Config::new(1, setting.servers);
    config.sessions = Some(setting.sessions);
    config.refresh = setting.refresh;
    config.replicate = setting.replicate;
    let mut world = World::new(config);
    publish(&mut world, setting.records, LONG, setting.stays, 10 * MINUTE);
    let begun = world.now;
    let before = world.measures.bytes;
    let mut samples = Vec::new();
    let mut fewest = usize::MAX;
    let mut at = begun;
    let mut gone = 0;
    while at < begun + setting.hours * HOUR {
        let copies: Vec<_> =
            (0..setting.records).filter_map(|writer| world.copies(writer)).collect();
        let least = copies.iter().map(|copies| copies.all).min().unwrap_or(0);
        fewest = fewest.min(least);
        samples.push((
            (at - begun) as f64 / HOUR as f64,
            mean(copies.iter().map(|copies| copies.all as f64)),
            mean(copies.iter().map(|copies| copies.close as f64)),
            least as f64,
        ));
        gone = copies.iter().filter(|copies| copies.all == 0).count();
        at += 10 * MINUTE;
        world.run_until(at);
    }
    let hours = (world.now - begun) as f64 / HOUR as f64;
    let kb_per_record_hour =
        (world.measures.bytes - before) as f64 / hours / setting.records as f64;
    let left = world.nodes.iter().filter(|node| node.is_server && !node.is_up()).count();
    world.measures.not_found = 0;
    read_all(&mut world, 5 * MINUTE);
    Day {
        samples,
        gone,
        fewest,
        missed: world.measures.not_found,
        kb_per_record_hour,
        left,
        faults: world.measures.faults.clone(),
        handled: world.handled,
    }
}

const HARSH: Sessions = Sessions::HalfLife(2 * HOUR);
const WORSE: Sessions = Sessions::HalfLife(30 * MINUTE);

/// Copies alive over a day, at the defaults.
pub(crate) fn copies(
    report: &Report,
    servers: usize,
    records: usize,
) -> Result<(), Box<dyn Error>> {
    let defaults = Config::new(1, servers);
    let mut table = Table::new([
        "nodes stay",
        "writers",
        "left in the day",
        "copies, mean at the end",
        "of them among the 20 closest",
        "fewest of a record at any time",
        "records without a copy",
        "not found by a read at the end",
        "a record and hour, KB",
        "faults",
    ]);
    let mut lines: Vec<Line> = Vec::new();
    for (name, sessions) in
        [("as measured", Sessions::MEASURED), ("half-life 2 h", HARSH), ("half-life 30 min", WORSE)]
    {
        for (who, stays) in [("refresh", true), ("are gone", false)] {
            let setting = Setting {
                servers,
                records,
                sessions,
                refresh: defaults.refresh,
                replicate: defaults.replicate,
                stays,
                hours: 24,
            };
            let day = day(setting);
            let last = day.samples.last().copied().unwrap_or_default();
            table.row([
                &name,
                &who,
                &day.left,
                &format!("{:.1}", last.1),
                &format!("{:.1}", last.2),
                &day.fewest,
                &format!("{} of {records}", day.gone),
                &day.missed,
                &kb(day.kb_per_record_hour),
                &verdict(&day.faults),
            ]);
            let points =
                |of: fn(&Sample) -> (f64, f64)| day.samples.iter().map(of).collect::<Vec<_>>();
            lines.push((format!("{name}, writers {who}: mean"), points(|s| (s.0, s.1))));
            lines.push((format!("{name}, writers {who}: fewest"), points(|s| (s.0, s.3))));
            eprintln!("{name}, writers {who}: {} events", day.handled);
        }
    }
    report.table("churn", &table)?;
    let title = "Copies alive over a day of churn";
    let axes = Axes { title, x: "hours", y: "copies on nodes that are up", is_log: false };
    report.plot("copies", axes, &lines)
}

/// The same for other intervals than the defaults.
pub(crate) fn intervals(
    report: &Report,
    servers: usize,
    records: usize,
) -> Result<(), Box<dyn Error>> {
    let mut table = Table::new([
        "nodes stay",
        "writers refresh every",
        "replication every",
        "copies, mean at the end",
        "fewest of a record at any time",
        "records without a copy",
        "not found by a read at the end",
        "a record and hour, KB",
    ]);
    let shown = |time: Option<Time>| match time {
        None => "never".to_owned(),
        Some(time) if time < HOUR => format!("{} min", time / MINUTE),
        Some(time) => format!("{} h", time / HOUR),
    };
    let mut lines: Vec<Line> = Vec::new();
    let measured: &[(Option<Time>, Option<Time>)] = &[
        (None, Some(HOUR)),
        (None, Some(4 * HOUR)),
        (None, None),
        (Some(HOUR), None),
        (Some(4 * HOUR), Some(4 * HOUR)),
        (Some(12 * HOUR), Some(4 * HOUR)),
    ];
    let harsh: &[(Option<Time>, Option<Time>)] = &[
        (None, Some(30 * MINUTE)),
        (None, Some(HOUR)),
        (None, Some(2 * HOUR)),
        (None, Some(4 * HOUR)),
        (None, None),
        (Some(HOUR), None),
        (Some(2 * HOUR), None),
        (Some(4 * HOUR), None),
        (Some(2 * HOUR), Some(2 * HOUR)),
        (Some(4 * HOUR), Some(2 * HOUR)),
        (Some(12 * HOUR), Some(2 * HOUR)),
    ];
    for (name, sessions, intervals) in
        [("as measured", Sessions::MEASURED, measured), ("half-life 2 h", HARSH, harsh)]
    {
        for (refresh, replicate) in intervals.iter().copied() {
            let setting = Setting {
                servers,
                records,
                sessions,
                refresh: refresh.unwrap_or(HOUR),
                replicate,
                stays: refresh.is_some(),
                hours: 24,
            };
            let day = day(setting);
            let last = day.samples.last().copied().unwrap_or_default();
            table.row([
                &name,
                &shown(refresh),
                &shown(replicate),
                &format!("{:.1}", last.1),
                &day.fewest,
                &format!("{} of {records}", day.gone),
                &day.missed,
                &kb(day.kb_per_record_hour),
            ]);
            eprintln!("{name}, {} and {}", shown(refresh), shown(replicate));
            if sessions == HARSH && refresh.is_none() {
                let points = day.samples.iter().map(|sample| (sample.0, sample.1)).collect();
                lines.push((format!("replication {}", shown(replicate)), points));
            }
        }
    }
    report.table("intervals", &table)?;
    let title = "Copies alive without writers, half-life 2 h, by replication interval";
    let axes = Axes { title, x: "hours", y: "mean copies on nodes that are up", is_log: false };
    report.plot("intervals-copies", axes, &lines)
}
