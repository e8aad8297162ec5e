//! `smart-record inspect`: what is in a file with a record.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use libp2p_smart_record::{Clock, RecordKey, SmartRecordValidator, SystemClock};

use crate::output;

#[derive(clap::Args)]
pub struct Arguments {
    /// A file with the bytes of a smart record, as Kademlia has them.
    file: PathBuf,
    /// The key that it stands under, which its signatures are for.
    #[arg(long)]
    under: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { file, under, json } = arguments;
    let value =
        std::fs::read(file).with_context(|| format!("{} could not be read", file.display()))?;
    let (key, now) = (RecordKey::from(under.as_str()), SystemClock.now());
    let record = SmartRecordValidator::default()
        .read(&key, &value, now)
        .with_context(|| format!("{} is no good record under {under}", file.display()))?;
    let view = record.view(now);
    if *json {
        println!("{}", output::view_json(&key, &view));
    } else {
        println!("{}", output::view_table(&view, now));
    }
    Ok(ExitCode::SUCCESS)
}
