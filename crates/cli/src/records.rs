//! `smart-record publish`, `put`, `get`, `watch` and `withdraw`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::StreamExt;
use libp2p::PeerId;
use libp2p_smart_record::{
    Clock, Dict, RecordKey, Registry, SystemClock,
    client::{Client, ClientError, Publication, PublicationContent},
    query::{Reading, Snapshot},
};
use serde_json::{Value, json};
use smart_record_host::Host;

use crate::{
    content::{self, Content},
    failure::Failure,
    files::{self, Existing},
    keys,
    network::{NetworkArguments, answered, finish, lifetime},
    output::{Format, progress, say},
    stop::Stop,
};

#[derive(clap::Args)]
pub struct Publish {
    /// The key of a smart record, such as /sr/rooms/lobby.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    /// The document, a JSON object.
    document: Dict,
    /// Lifetime, such as 90s, 10m or 2h.
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// Replaces everything in our space, instead of merging into it.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    write: Write,
}

#[derive(clap::Args)]
pub struct Put {
    /// The key that the record was signed for.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    /// The file with the bytes of the record, as `get --output` writes it.
    file: PathBuf,
    #[command(flatten)]
    write: Write,
}

/// Arguments of `publish` and `put`.
#[derive(clap::Args)]
struct Write {
    /// Reads the record back and shows the peers that hold it.
    #[arg(long)]
    confirm: bool,
    #[command(flatten)]
    network: NetworkArguments,
}

#[derive(clap::Args)]
pub struct Read {
    /// The key: /sr/PATH, /ipns/NAME, /pk/PEER, /iprs/PEER/NAME or /presence/PEER/.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    #[command(flatten)]
    network: NetworkArguments,
}

#[derive(clap::Args)]
pub struct Withdraw {
    /// The key of a smart record, such as /sr/rooms/lobby.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    #[command(flatten)]
    network: NetworkArguments,
}

#[derive(clap::Args)]
pub struct Get {
    #[command(flatten)]
    read: Read,
    /// Writes the bytes of the record to this file, for `inspect` and `put`.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn publish(arguments: Publish, format: Format) -> Result<ExitCode> {
    let Publish { key_of_record, document, ttl, replace, write } = arguments;
    let key = keys::parse(&key_of_record)?;
    if key.namespace() != Some(Registry::SMART_RECORDS) {
        return Err(Failure::NotSmart { key: key_of_record }.into());
    }
    let shown = document.to_json();
    write
        .run(&key_of_record, Some(shown), format, async |client| match replace {
            true => client.replace(key, document, ttl).await,
            false => client.publish(key, document, ttl).await,
        })
        .await
}

pub async fn put(arguments: Put, format: Format) -> Result<ExitCode> {
    let Put { key_of_record, file, write } = arguments;
    let key = keys::parse(&key_of_record)?;
    let value = read_file(&file)?;
    write.run(&key_of_record, None, format, async |client| client.put(key, value).await).await
}

impl Write {
    async fn run(
        self,
        key: &str,
        document: Option<Value>,
        format: Format,
        write: impl AsyncFnOnce(&Client) -> Result<Publication, ClientError>,
    ) -> Result<ExitCode> {
        let node = self.network.join().await?;
        let client = node.client();
        let publication = progress("writing", write(client))
            .await
            .or_else(ClientError::into_publication)
            .with_context(|| format!("failed to write {key}"))?;
        let confirmed = match self.confirm {
            true => Some(progress("reading it back", client.confirm(&publication)).await?),
            false => None,
        };
        written(&publication, document, confirmed, &node, format).await
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let name = file.display().to_string();
    std::fs::read(file).map_err(|source| Failure::File { file: name, verb: "read", source })
}

pub async fn withdraw(arguments: Withdraw, format: Format) -> Result<ExitCode> {
    let Withdraw { key_of_record, network } = arguments;
    let key = keys::parse(&key_of_record)?;
    if network.key.is_none() {
        return Err(Failure::NoKey.into());
    }
    let node = network.join().await?;
    let publication = progress("withdrawing", node.client().withdraw(key))
        .await
        .or_else(ClientError::into_publication)
        .with_context(|| format!("failed to withdraw {key_of_record}"))?;
    written(&publication, None, None, &node, format).await
}

async fn written(
    publication: &Publication,
    document: Option<Value>,
    confirmed: Option<Vec<PeerId>>,
    node: &Host,
    format: Format,
) -> Result<ExitCode> {
    finish(node).await;
    let taken: Vec<_> = publication.progress().acknowledged().collect();
    if taken.is_empty() {
        let is_alone = node.peers().await?.is_empty();
        return Err(if is_alone { Failure::Unreachable } else { Failure::NotTaken }.into());
    }
    let content = match &publication.content {
        PublicationContent::Value(value) => {
            Some(Content::read(&publication.key, value, SystemClock.now())?)
        }
        PublicationContent::Record(record) => Some(Content::of_record(record)),
        _ => None,
    };
    let update = publication.update();
    let json = || {
        let mut fields = match &content {
            Some(content) => content.json(SystemClock.now()),
            None => content::nothing(&publication.key),
        };
        if let Some(update) = update {
            fields.remove("spaces");
            fields.insert("writer".to_owned(), node.peer_id().to_string().into());
            fields.insert("seq".to_owned(), update.seq().to_string().into());
            fields.insert("expires_at".to_owned(), update.expires_at.to_string().into());
            fields.insert("document".to_owned(), document.into());
        }
        fields.insert("chunks".to_owned(), publication.chunks.into());
        fields.insert("peers".to_owned(), peers(&taken));
        if let Some(confirmed) = &confirmed {
            fields.insert("confirmed".to_owned(), peers(confirmed));
        }
        Value::Object(fields)
    };
    let text = || {
        let acknowledged = taken.len();
        let whose = match update {
            Some(update) => format!("{}, seq {}", node.peer_id(), update.seq()),
            None => keys::show(&publication.key),
        };
        let confirmed = confirmed.as_ref().map(|peers| match peers.len() {
            1 => "; held by 1".to_owned(),
            holders => format!("; held by {holders}"),
        });
        let peers = if acknowledged == 1 { "peer" } else { "peers" };
        format!("{whose}: acknowledged by {acknowledged} {peers}{}", confirmed.unwrap_or_default())
    };
    format.line(json, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Peers as JSON.
pub fn peers(peers: &[PeerId]) -> Value {
    peers.iter().map(ToString::to_string).collect()
}

/// A share as a percentage that is 0 or 100 only if the share is 0 or 1.
pub fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent > 0.0 && percent < 1.0 => "less than 1 %".to_owned(),
        percent if percent > 99.0 && percent < 100.0 => "more than 99 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// What a reading that is not complete lacks.
pub fn shortfall(reading: &Reading) -> Option<String> {
    if reading.is_complete() {
        return None;
    }
    Some(match reading.missing() {
        missing if missing > 0.0 => {
            format!("not complete: {} was not shown by enough peers", percent(missing))
        }
        _ => "not complete: too few of the closest peers have answered".to_owned(),
    })
}

/// Reads a record and fails if no peer answers.
pub async fn read(key: &RecordKey, node: &Host) -> Result<Reading> {
    let reading = progress("reading", node.client().get(key.clone())).await;
    let reading = answered(node, reading)
        .await?
        .with_context(|| format!("failed to read {}", keys::show(key)))?;
    match reading.has_reached_anyone() {
        true => Ok(reading),
        false => Err(Failure::NoAnswer.into()),
    }
}

pub async fn get(arguments: Get, format: Format) -> Result<ExitCode> {
    let Get { read: Read { key_of_record, network }, output } = arguments;
    let key = keys::parse(&key_of_record)?;
    let node = network.join().await?;
    let reading = read(&key, &node).await?;
    let at = reading.snapshot.at;
    let content = Content::of(&reading.snapshot)?.filter(|content| content.says_something(at));
    let content = content.ok_or(Failure::NotFound(key_of_record))?;
    if let Some(file) = output {
        files::write(&file, &content.bytes, Existing::Replaced).map_err(|source| {
            Failure::File { file: file.display().to_string(), verb: "write", source }
        })?;
    }
    let json = || {
        let mut fields = content.json(at);
        fields.insert("peers".to_owned(), peers(&reading.holders));
        fields.insert("complete".to_owned(), reading.is_complete().into());
        fields.insert("missing".to_owned(), reading.missing().into());
        let withheld = reading.withheld.iter().map(|withheld| {
            json!({
                "writer": withheld.writer.to_string(),
                "known": withheld.known.to_string(),
                "found": withheld.found.map(|seq| seq.to_string()),
            })
        });
        fields.insert("withheld".to_owned(), withheld.collect());
        Value::Object(fields)
    };
    format.rows(json, || content.rows(at))?;
    if let Some(shortfall) = shortfall(&reading) {
        say(&shortfall);
    }
    finish(&node).await;
    Ok(ExitCode::SUCCESS)
}

/// Prints the record at each change, until it is stopped.
pub async fn watch(arguments: Read, format: Format) -> Result<ExitCode> {
    let Read { key_of_record, network } = arguments;
    let key = keys::parse(&key_of_record)?;
    let mut stop = Stop::new()?;
    let work = async {
        let node = network.join().await?;
        // A wrong address fails here, at once.
        read(&key, &node).await?;
        let mut watch = node.client().watch(key.clone()).await?;
        while let Some(snapshot) = watch.next().await {
            show(&snapshot, format)?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = work => ended?,
        _ = stop.asked() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn show(snapshot: &Snapshot, format: Format) -> Result<()> {
    let at = snapshot.at;
    // Content that is no longer valid counts as nothing; valid content may follow.
    let content = Content::of(snapshot).ok().flatten();
    match content.filter(|content| content.says_something(at)) {
        Some(content) => format.rows(|| Value::Object(content.json(at)), || content.rows(at))?,
        None => format.line(
            || Value::Object(content::nothing(&snapshot.key)),
            || format!("nothing under {}", keys::show(&snapshot.key)),
        )?,
    }
    Ok(())
}
