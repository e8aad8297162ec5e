//! `smart-record put`, `get`, `watch` and `withdraw`.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use libp2p_smart_record::{Clock, Dict, RecordKey, SystemClock, View, client::Publication};
use serde_json::json;

use crate::{
    failure::Failure,
    network::{Network, check_reached},
    output,
};

#[derive(clap::Args)]
pub struct Put {
    /// The key, such as /sr/rooms/lobby.
    key_of_record: String,
    /// The document, a JSON object.
    document: Dict,
    /// How long it lives, such as 90s, 10m or 2h.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Puts it in the place of all that our space says, rather than merging it.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    network: Network,
}

#[derive(clap::Args)]
pub struct Read {
    /// The key, such as /sr/rooms/lobby.
    key_of_record: String,
    #[command(flatten)]
    network: Network,
}

pub async fn put(arguments: Put) -> Result<ExitCode> {
    let Put { key_of_record, document, ttl, replace, network } = arguments;
    let node = network.join().await?;
    let work = async {
        let client = node.client();
        if replace {
            client.replace(key_of_record.as_str(), document, ttl).await
        } else {
            client.publish(key_of_record.as_str(), document, ttl).await
        }
    };
    let publication = output::progress("putting", work)
        .await
        .with_context(|| format!("{key_of_record} could not be written"))?;
    written(&publication, &node.peer_id().to_string(), network.json)
}

pub async fn withdraw(arguments: Read) -> Result<ExitCode> {
    let Read { key_of_record, network } = arguments;
    if network.key.is_none() {
        return Err(Failure::NoKey.into());
    }
    let node = network.join().await?;
    let work = node.client().withdraw(key_of_record.as_str());
    let publication = output::progress("withdrawing", work)
        .await
        .with_context(|| format!("{key_of_record} could not be withdrawn"))?;
    written(&publication, &node.peer_id().to_string(), network.json)
}

fn written(publication: &Publication, writer: &str, json: bool) -> Result<ExitCode> {
    // It stands in the store of this process alone, which ends now.
    if publication.peers.is_empty() {
        return Err(Failure::Unreachable.into());
    }
    let peers: Vec<_> = publication.peers.iter().map(ToString::to_string).collect();
    if json {
        let seq = publication.update.map(|update| update.seq().to_string());
        let key = publication.key.to_string();
        println!("{}", json!({ "key": key, "writer": writer, "seq": seq, "peers": peers }));
    } else {
        println!("{writer} at {} peers", peers.len());
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn get(arguments: Read) -> Result<ExitCode> {
    let Read { key_of_record, network } = arguments;
    let key = RecordKey::from(key_of_record.as_str());
    let node = network.join().await?;
    let reading = output::progress("reading", node.client().get(key.clone()))
        .await
        .with_context(|| format!("{key_of_record} could not be read"))?;
    check_reached(&node).await?;
    let view = reading.view();
    if view.is_empty() {
        return Err(Failure::NotFound(key_of_record).into());
    }
    show(&key, &view, network.json);
    Ok(ExitCode::SUCCESS)
}

/// Prints the record whenever it changes, until Ctrl-C.
pub async fn watch(arguments: Read) -> Result<ExitCode> {
    let Read { key_of_record, network } = arguments;
    let key = RecordKey::from(key_of_record.as_str());
    let node = network.join().await?;
    let mut watch = node.client().watch(key.clone()).await?;
    loop {
        tokio::select! {
            snapshot = watch.next() => match snapshot {
                Some(snapshot) => show(&key, &snapshot.view(), network.json),
                None => return Ok(ExitCode::SUCCESS),
            },
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn show(key: &RecordKey, view: &View, json: bool) {
    if json {
        println!("{}", output::view_json(key, view));
    } else {
        println!("{}", output::view_table(view, SystemClock.now()));
    }
}
