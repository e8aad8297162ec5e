//! `smart-record resolve`: what an IPNS name points to.
//!
//! **Invariants.** The number of names that are followed is bounded. Names of DNS are not resolved.

use std::process::ExitCode;

use anyhow::Result;
use libp2p_smart_record::{
    Timestamp, escaped,
    ipns::{ContentPath, IpnsName, IpnsRecord},
};
use serde_json::json;
use smart_record_host::Host;

use crate::{
    content::{Content, ContentKind},
    failure::Failure,
    keys,
    network::{NetworkArguments, finish},
    output::Format,
    records,
};

/// Maximum number of names, as in kubo.
const MAX_NAMES: usize = 32;

/// Text below the help.
const EXAMPLES: &str = "\
Examples:
  smart-record resolve k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8 -c ADDRESS
  smart-record resolve /ipns/self/docs -k ada.key -c ADDRESS

The path is printed alone, for scripts; `smart-record get` shows the whole record.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The name, such as k51…, 12D3Koo… or `self`, with or without /ipns/ before it. A path may
    /// follow, as it is printed.
    name: String,
    /// Follows a name that points to another name.
    #[arg(
        long, short, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", value_name = "BOOL"
    )]
    recursive: bool,
    #[command(flatten)]
    network: NetworkArguments,
}

pub async fn run(arguments: Arguments, format: Format) -> Result<ExitCode> {
    let Arguments { name, recursive, network } = arguments;
    let rest = name.strip_prefix("/ipns/").unwrap_or(&name);
    let (first, rest) = split(rest);
    let rest = rest.map(keys::path);
    let key = network.record_key(&format!("/ipns/{first}"))?;
    let node = network.join().await?;
    let mut name = IpnsName::try_from(&key)?;
    let (mut record, at) = read(&name, &node, format).await?;
    let mut path = target(&name, &record, rest.as_deref())?;
    let mut names = vec![name];
    while let Some((next, rest)) = next_name(&path).filter(|_| recursive) {
        if names.len() >= MAX_NAMES {
            return Err(Failure::TooManyNames { max: MAX_NAMES }.into());
        }
        name = next;
        names.push(name);
        (record, _) = read(&name, &node, format).await?;
        path = target(&name, &record, rest.as_deref())?;
    }
    let json = || {
        let names: Vec<_> = names.iter().map(|name| format!("/ipns/{name}")).collect();
        json!({
            "path": path.as_str(),
            "names": names,
            "seq": record.sequence().to_string(),
            "expires_at": record.eol().to_string(),
            "ttl_seconds": record.ttl(at).map(|ttl| ttl.as_secs()),
        })
    };
    // As `publish` takes it.
    format.line(json, || escaped(path.as_str()).to_string())?;
    finish(&node).await;
    Ok(ExitCode::SUCCESS)
}

async fn read(name: &IpnsName, node: &Host, format: Format) -> Result<(IpnsRecord, Timestamp)> {
    let ipns = |content: Content, at| match content.kind {
        ContentKind::Ipns(record) => Some((record, at)),
        _ => None,
    };
    Ok(records::find(&name.key(), node, format, ipns).await?.1)
}

/// What a record points to, with the path that follows the name.
fn target(
    name: &IpnsName,
    record: &IpnsRecord,
    rest: Option<&str>,
) -> Result<ContentPath, Failure> {
    let no_path = |value: String| Failure::NoPath { name: name.to_string(), value };
    let path = record.path().map_err(|error| no_path(error.text))?;
    let Some(rest) = rest else { return Ok(path) };
    let whole = format!("{}/{rest}", path.as_str());
    whole.parse().map_err(|_| no_path(whole))
}

/// The name that a path begins with, and the rest, unless it is a name of DNS.
fn next_name(path: &ContentPath) -> Option<(IpnsName, Option<String>)> {
    let rest = path.as_str().strip_prefix("/ipns/")?;
    let (name, rest) = split(rest);
    Some((name.parse().ok()?, rest.map(str::to_owned)))
}

/// A name, and the path after it.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(name, path)| (name, Some(path)))
}
