//! The command: runs scenarios. See `docs/scale.md`.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs,
    process::{Command, ExitCode},
};

use smart_record_sim::{
    StorageFault,
    scenario::{Plan, Scenario, minutes},
    scenarios,
    shrink::Size,
    trace::Trace,
    world::{Report, Times, World},
};

/// Does not touch what is only reserved: Kademlia reserves 1.6 MB a node for buckets that stay
/// empty.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "usage: smart-record-sim list
       smart-record-sim run SCENARIO [OPTION…]      fails if a check does
       smart-record-sim twice SCENARIO [OPTION…]    one seed in two processes, compared
       smart-record-sim planted SCENARIO [OPTION…]  fails if no check does
       smart-record-sim shrink SCENARIO [OPTION…]   prints the command of a smaller failing run
options: --seed N          1 without it
         --trace FILE      writes what happened
         --plant FAULT     forgets, rolls-back, skips, trusts or unstamped
         --servers N --boards N --writers N --readers N --minutes N
         --bootstrap N     minutes between Kademlia's own refreshes
         --tables full     nodes start with full routing tables
         --skip N,N…       leaves out these faults of the scenario, counted from 0";

/// Number of findings that are printed.
const SHOWN: usize = 8;

/// Maximum number of runs to make one smaller.
const TRIES: u32 = 60;

type Failure = Box<dyn Error>;

/// What to run.
#[derive(Clone, Debug)]
struct Options {
    scenario: Scenario,
    seed: u64,
    trace: Option<String>,
    skipped: BTreeSet<usize>,
    /// The options that do not change the size.
    others: Vec<String>,
}

impl Options {
    fn read(name: &str, rest: &[String]) -> Result<Self, Failure> {
        let mut all = scenarios::all().into_iter();
        let scenario = all.find(|it| it.name == name);
        let scenario = scenario.ok_or(format!("there is no scenario {name}"))?;
        let (trace, skipped, others) = (None, BTreeSet::new(), Vec::new());
        let mut options = Self { scenario, seed: 1, trace, skipped, others };
        let scenario = &mut options.scenario;
        let mut rest = rest.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or(format!("{option} has no value"))?;
            match option.as_str() {
                "--servers" => scenario.servers = value.parse()?,
                "--boards" => scenario.boards = value.parse()?,
                "--writers" => scenario.writers = value.parse()?,
                "--readers" => scenario.readers = value.parse()?,
                "--minutes" => scenario.lasts = minutes(value.parse()?),
                "--skip" => {
                    let skipped = value.split(',').map(str::parse);
                    options.skipped = skipped.collect::<Result<_, _>>()?;
                }
                "--trace" => options.trace = Some(value.clone()),
                other => {
                    match other {
                        "--seed" => options.seed = value.parse()?,
                        "--bootstrap" => scenario.bootstrap_every = minutes(value.parse()?),
                        "--tables" => match value.as_str() {
                            "full" => scenario.has_tables = true,
                            _ => return Err(format!("there are no tables {value}").into()),
                        },
                        "--plant" => match value.as_str() {
                            "forgets" => {
                                scenario.planted.storage = Some(StorageFault::ForgetsSpaces);
                            }
                            "rolls-back" => {
                                scenario.planted.storage = Some(StorageFault::RollsBack);
                            }
                            "skips" => scenario.planted.loses_records = true,
                            "unstamped" => scenario.stamp_bits = 0,
                            "trusts" => *scenario = scenario.clone().complete_at(1),
                            _ => return Err(format!("there is no fault {value}").into()),
                        },
                        _ => return Err(format!("there is no option {option}\n{USAGE}").into()),
                    }
                    options.others.extend([option.clone(), value.clone()]);
                }
            }
        }
        Ok(options)
    }

    fn size(&self) -> Size {
        let scenario = &self.scenario;
        let numbers = [scenario.servers, scenario.boards, scenario.writers, scenario.readers];
        let [servers, boards, writers, readers] = numbers.map(u64::from);
        let minutes = scenario.lasts.as_secs() / 60;
        let numbers = [servers, boards, writers, readers, minutes];
        Size { numbers, skipped: self.skipped.clone() }
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.scenario, self.seed, &self.skipped)
    }
}

/// Memory of this process in bytes, if the system tells it: now (`VmRSS`) or the most (`VmHWM`).
fn memory(which: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

/// Time that the processor has spent on this process in seconds, if the system tells it: the
/// machine may be busy with others.
fn processor() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // After the name of the command, which may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    // Linux tells it in hundredths of a second.
    Some(f64::from(ticks()? + ticks()?) / 100.0)
}

fn run(options: &Options) -> Result<Report, Failure> {
    smart_record_sim_entropy::seed(options.seed)?;
    let trace = if options.trace.is_some() { Trace::with_text() } else { Trace::default() };
    let world = World::new(options.scenario.clone(), options.seed, trace.clone());
    let report = world.run(&options.plan(), |world| {
        let hours = world.elapsed().as_secs_f64() / 3_600.0;
        let megabytes = memory("VmRSS").unwrap_or_default() / 1_000_000;
        eprintln!("{hours:.1} h in {:.1} s, {megabytes} MB", processor().unwrap_or_default());
    });
    if let Some(file) = &options.trace {
        fs::write(file, trace.text())?;
    }
    Ok(report)
}

/// Median and 99th percentile.
fn times(times: &Times) -> String {
    let [median, most] = [50, 99].map(|percent| times.within(percent).as_millis());
    format!("median {median} ms, 99 % {most} ms")
}

fn show(options: &Options, report: &Report) {
    let figures = &report.figures;
    let hours = figures.lasted.as_secs_f64() / 3_600.0;
    let per_hour = |bytes: u64| bytes as f64 / hours / f64::from(figures.server_count) / 1e6;
    let (name, seed) = (options.scenario.name, options.seed);
    println!("{name}, seed {seed}: {} nodes, {hours:.1} h", figures.nodes);
    let [begun, kept] = figures.writes;
    println!("writes: {begun}, kept by a majority: {kept}; {}", times(&figures.write_times));
    let [begun, ended, complete] = figures.reads;
    let times = times(&figures.read_times);
    println!("reads: {begun}, with a result: {ended}, complete: {complete}; {times}");
    let (connections, requests) = (figures.connections, figures.requests);
    println!("connections: {connections}, of servers: {}", figures.servers.dials);
    println!("requests: {requests}");
    let (sent, most) = (per_hour(figures.servers.sent), figures.most_sent as f64 / hours / 1e6);
    println!("a server sends {sent:.2} MB an hour, the busiest {most:.2} MB");
    for (number, hour) in (1..).zip(&figures.hours) {
        let sent = hour.sent as f64 / f64::from(figures.server_count) / 1e6;
        let (connections, requests) = (hour.connections, hour.requests);
        println!("hour {number}: {sent:.4} MB, {connections} connections, {requests} requests");
    }
    if let Some((memory, seconds)) = memory("VmHWM").zip(processor()) {
        let of_one = memory as f64 / f64::from(figures.nodes) / 1e3;
        eprintln!("{:.1} s of a processor an hour; {of_one:.0} kB a node", seconds / hours);
    }
    for violation in report.exempted.iter().take(SHOWN) {
        println!("exempt: {violation}");
    }
    for violation in report.violations.iter().take(SHOWN) {
        println!("VIOLATED: {violation}");
    }
    if let Some(more @ 1..) = report.violations.len().checked_sub(SHOWN) {
        println!("and {more} more");
    }
    println!("trace {}", report.hash);
}

/// Runs a seed in two processes and compares what they print, and their traces.
fn twice(name: &str, rest: &[String]) -> Result<bool, Failure> {
    let once = |number: u32| -> Result<(String, String), Failure> {
        let process = std::process::id();
        let file = env::temp_dir().join(format!("smart-record-sim-{process}-{number}"));
        let mut command = Command::new(env::current_exe()?);
        let output = command.args(["run", name]).args(rest).arg("--trace").arg(&file).output()?;
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        Ok((String::from_utf8(output.stdout)?, text))
    };
    let (first, second) = (once(1)?, once(2)?);
    print!("{}", first.0);
    println!("its text has {} bytes", first.1.len());
    if first == second {
        println!("the same in two processes");
        return Ok(true);
    }
    println!("DIFFERENT in two processes");
    let mut lines = first.1.lines().zip(second.1.lines());
    if let Some((first, second)) = lines.find(|(first, second)| first != second) {
        println!("{first}\n{second}");
    }
    Ok(false)
}

/// The checks that fail in a run, by name.
fn failing(name: &str, rest: &[String]) -> Result<BTreeSet<String>, Failure> {
    let output = Command::new(env::current_exe()?).args(["run", name]).args(rest).output()?;
    let text = String::from_utf8(output.stdout)?;
    let found = text.lines().filter_map(|line| line.strip_prefix("VIOLATED: "));
    Ok(found.filter_map(|line| line.split_once(' ')).map(|(check, _)| check.to_owned()).collect())
}

fn shrink(name: &str, options: &Options) -> Result<bool, Failure> {
    let rest = |size: &Size| [options.others.clone(), size.options()].concat();
    let first = failing(name, &rest(&options.size()))?;
    let Some(check) = first.first() else { return Err("this run does not fail".into()) };
    let mut failure = None;
    let smallest = options.size().shrink(options.plan().faults(), TRIES, |size| {
        match failing(name, &rest(size)) {
            Ok(found) => found.contains(check),
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    println!("{check} fails with: smart-record-sim run {name} {}", rest(&smallest).join(" "));
    Ok(true)
}

fn command() -> Result<bool, Failure> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (verb, name, rest) = match args.as_slice() {
        [verb] if verb == "list" => {
            for scenario in scenarios::all() {
                println!("{:10} {}", scenario.name, scenario.about);
                for (check, why) in &scenario.exempt {
                    println!("{:10} without {check}: {why}", "");
                }
            }
            return Ok(true);
        }
        [verb, name, rest @ ..] => (verb, name, rest),
        _ => return Err(USAGE.into()),
    };
    let options = Options::read(name, rest)?;
    match verb.as_str() {
        "twice" => twice(name, rest),
        "shrink" => shrink(name, &options),
        "run" | "planted" => {
            let report = run(&options)?;
            show(&options, &report);
            Ok(report.violations.is_empty() == (verb == "run"))
        }
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    match command() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
