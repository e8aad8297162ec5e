//! The command: runs scenarios. See `docs/scale.md`.

use std::{
    env,
    error::Error,
    fs,
    process::{Command, ExitCode},
    time::Instant,
};

use smart_record_sim::{
    scenario::{Plan, Scenario},
    scenarios,
    trace::Trace,
    world::{Report, World},
};

const USAGE: &str = "usage: smart-record-sim list
       smart-record-sim run SCENARIO [--seed N] [--trace FILE] [SIZE]
       smart-record-sim twice SCENARIO [--seed N] [SIZE]
SIZE:  [--servers N] [--boards N] [--writers N] [--readers N] [--minutes N] [--skip FAULT,FAULT…]";

/// Number of findings that are printed.
const SHOWN: usize = 8;

/// The options of a run.
#[derive(Clone, Debug, Default)]
struct Options {
    seed: u64,
    trace: Option<String>,
    skipped: Vec<usize>,
    scenario: Option<Scenario>,
}

fn options(name: &str, rest: &[String]) -> Result<Options, Box<dyn Error>> {
    let mut scenarios = scenarios::all().into_iter();
    let mut scenario =
        scenarios.find(|it| it.name == name).ok_or(format!("there is no scenario {name}"))?;
    let mut options = Options { seed: 1, ..Options::default() };
    let mut rest = rest.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or(format!("{option} has no value"))?;
        match option.as_str() {
            "--seed" => options.seed = value.parse()?,
            "--trace" => options.trace = Some(value.clone()),
            "--servers" => scenario.servers = value.parse()?,
            "--boards" => scenario.boards = value.parse()?,
            "--writers" => scenario.writers = value.parse()?,
            "--readers" => scenario.readers = value.parse()?,
            "--minutes" => scenario.lasts = smart_record_sim::scenario::minutes(value.parse()?),
            "--skip" => {
                let skipped = value.split(',').map(str::parse);
                options.skipped = skipped.collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("there is no option {option}\n{USAGE}").into()),
        }
    }
    options.scenario = Some(scenario);
    Ok(options)
}

/// Memory of this process in bytes, if the system tells it.
fn memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    smart_record_sim_entropy::seed(options.seed);
    let scenario = options.scenario.clone().ok_or(USAGE)?;
    let trace = if options.trace.is_some() { Trace::with_text() } else { Trace::default() };
    let plan = Plan::new(&scenario, options.seed, &options.skipped);
    let world = World::new(scenario, options.seed, trace.clone());
    let begun = Instant::now();
    let report = world.run(&plan, |world| {
        eprintln!(
            "{:.1} h in {:.1} s",
            world.elapsed().as_secs_f64() / 3_600.0,
            begun.elapsed().as_secs_f64()
        );
    });
    if let Some(file) = &options.trace {
        fs::write(file, trace.text())?;
    }
    Ok(report)
}

fn show(options: &Options, report: &Report, seconds: f64) {
    let figures = &report.figures;
    let hours = figures.lasted.as_secs_f64() / 3_600.0;
    let per_hour = |bytes: u64| bytes as f64 / hours / f64::from(figures.server_count) / 1e6;
    let name = options.scenario.as_ref().map_or("", |scenario| scenario.name);
    println!("{name}, seed {}: {} nodes, {hours:.1} h", options.seed, figures.nodes);
    let [begun, kept] = figures.writes;
    println!("writes: {begun}, shown by a majority: {kept}");
    let [begun, ended, complete] = figures.reads;
    println!("reads: {begun}, with a result: {ended}, complete: {complete}");
    println!("connections: {}, dials of servers: {}", figures.connections, figures.servers.dials);
    let (sent, most) = (per_hour(figures.servers.sent), figures.most_sent as f64 / hours / 1e6);
    println!("a server sends {sent:.2} MB an hour, the busiest {most:.2} MB");
    if let Some(memory) = memory() {
        let of_one = memory as f64 / f64::from(figures.nodes) / 1e3;
        eprintln!("{:.1} s an hour; {of_one:.0} kB a node, at most", seconds / hours);
    }
    for violation in report.exempted.iter().take(SHOWN) {
        println!("exempt: {violation}");
    }
    for violation in report.violations.iter().take(SHOWN) {
        println!("VIOLATED: {violation}");
    }
    if report.violations.len() > SHOWN {
        println!("and {} more", report.violations.len() - SHOWN);
    }
    println!("trace {}", report.hash);
}

/// Runs a seed in two processes and compares their traces.
fn twice(options: &Options, rest: &[String]) -> Result<bool, Box<dyn Error>> {
    let name = options.scenario.as_ref().map_or("", |scenario| scenario.name);
    let once = |number: u32| -> Result<(Vec<u8>, Vec<u8>), Box<dyn Error>> {
        let process = std::process::id();
        let file = env::temp_dir().join(format!("smart-record-sim-{process}-{number}"));
        let output = Command::new(env::current_exe()?)
            .args(["run", name])
            .args(rest)
            .arg("--trace")
            .arg(&file)
            .output()?;
        let text = fs::read(&file)?;
        fs::remove_file(&file)?;
        Ok((output.stdout, text))
    };
    let (first, second) = (once(1)?, once(2)?);
    print!("{}", String::from_utf8_lossy(&first.0));
    println!("the trace has {} bytes", first.1.len());
    let is_same = first == second;
    println!(
        "{}",
        if is_same { "the same in two processes" } else { "DIFFERENT in two processes" }
    );
    if !is_same {
        let lines = |text: &[u8]| {
            String::from_utf8_lossy(text).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (one, other) = (lines(&first.1), lines(&second.1));
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        if let Some(at) = differs {
            println!("line {at}:\n{}\n{}", one[at], other[at]);
        }
    }
    Ok(is_same)
}

fn command() -> Result<bool, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let own = |rest: &[&str]| rest.iter().map(ToString::to_string).collect::<Vec<String>>();
    match args.as_slice() {
        ["list"] => {
            for scenario in scenarios::all() {
                println!("{:10} {}", scenario.name, scenario.about);
                for (check, why) in &scenario.exempt {
                    println!("{:10} without {check}: {why}", "");
                }
            }
            Ok(true)
        }
        ["run", name, rest @ ..] => {
            let options = options(name, &own(rest))?;
            let begun = Instant::now();
            let report = run(&options)?;
            show(&options, &report, begun.elapsed().as_secs_f64());
            Ok(report.violations.is_empty())
        }
        ["twice", name, rest @ ..] => {
            let rest = own(rest);
            twice(&options(name, &rest)?, &rest)
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
