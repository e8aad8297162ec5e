//! `smart-record get` and `watch`.

use std::{convert::Infallible, path::PathBuf, process::ExitCode};

use anyhow::Result;
use futures::StreamExt;
use libp2p::PeerId;
use libp2p_smart_record::{
    RecordKey, Timestamp,
    client::{ClientError, Watch},
    query::{Reading, RefusedAnswers, Snapshot},
};
use serde_json::{Value, json};
use smart_record_host::Host;

use crate::{
    content::{self, Content},
    failure::{self, Failure},
    files::{self, Existing},
    keys,
    missing::Missing,
    network::{NetworkArguments, answered, finish},
    output::{Format, progress},
    stop::Stop,
};

#[derive(clap::Args)]
pub struct Read {
    /// The key: /sr/PATH, /ipns/NAME, /pk/PEER, /iprs/PEER/NAME or /presence/PEER/.
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

/// Peers as JSON.
pub fn peers(peers: &[PeerId]) -> Value {
    peers.iter().map(ToString::to_string).collect()
}

/// Warns of a reading that is not complete.
fn warn_of_missing(reading: &Reading, format: Format) {
    if let Some(missing) = Missing::of(reading) {
        failure::warn(format.is_json(), &missing.to_string());
    }
}

/// Warns of updates that were left out because this clock is behind.
fn warn_of_clock(reading: &Reading, format: Format) {
    let ahead = reading.ahead_of_clock.iter();
    let ahead = ahead.filter(|peer| reading.holders.contains(peer)).count();
    if ahead > 0 {
        let message = format!(
            "{ahead} of {} holders have updates that are ahead of this clock, which are left out; is \
             the clock of this machine right?",
            reading.holders.len()
        );
        failure::warn(format.is_json(), &message);
    }
}

/// The refused answers as JSON.
pub fn refused(reading: &Reading) -> Value {
    let refused = reading.refused.iter().map(|(peer, reason)| {
        json!({ "peer": peer.to_string(), "fault": reason.fault().to_string(), "reason": reason.to_string() })
    });
    refused.collect()
}

/// Reads a record, and returns what `of` finds in its content at the instant of the reading. Warns
/// of what is missing. If nothing is found, the failure tells what is missing instead.
pub async fn find<T>(
    key: &RecordKey,
    node: &Host,
    format: Format,
    of: impl FnOnce(Content, Timestamp) -> Option<T>,
) -> Result<(Reading, T)> {
    let reading = read(key, node, format).await?;
    let content = Content::of(&reading.snapshot)?;
    let Some(found) = content.and_then(|content| of(content, reading.snapshot.at)) else {
        let (key, missing) = (keys::show(key), Missing::of(&reading));
        return Err(Failure::NotFound { key, missing }.into());
    };
    warn_of_missing(&reading, format);
    Ok((reading, found))
}

/// Reads a record. Fails if no peer answers, or no answer is valid, and warns of refused answers.
async fn read(key: &RecordKey, node: &Host, format: Format) -> Result<Reading> {
    let read = progress("reading", node.client().get(key.clone())).await;
    let reading = answered(key, node, read).await?;
    warn_of_refused(&reading, format);
    warn_of_clock(&reading, format);
    Ok(reading)
}

/// Warns of answers that were refused beside those that count.
pub fn warn_of_refused(reading: &Reading, format: Format) {
    if let Some(refused) = reading.refusals() {
        warn_of(&refused, format);
    }
}

/// Warns of these refused answers.
pub fn warn_of(refused: &RefusedAnswers, format: Format) {
    let clock =
        if refused.is_ahead_of_clock() { "; is the clock of this machine right?" } else { "" };
    failure::warn(format.is_json(), &format!("{refused}{clock}"));
}

pub async fn get(arguments: Get, format: Format) -> Result<ExitCode> {
    let Get { read: Read { key_of_record, network }, output } = arguments;
    let key = network.record_key(&key_of_record)?;
    let node = network.join().await?;
    let (reading, content) = find(&key, &node, format, |content, at| {
        Some(content).filter(|content| content.says_something(at))
    })
    .await?;
    let at = reading.snapshot.at;
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
        fields.insert("refused".to_owned(), refused(&reading));
        fields.insert("ahead_of_clock".to_owned(), peers(&reading.ahead_of_clock));
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
    finish(&node).await;
    Ok(ExitCode::SUCCESS)
}

/// Prints the record at each change, until it is stopped.
pub async fn watch(arguments: Read, format: Format) -> Result<ExitCode> {
    let Read { key_of_record, network } = arguments;
    let key = network.record_key(&key_of_record)?;
    let mut stop = Stop::new()?;
    let work = async {
        let node = network.join().await?;
        // A wrong address fails here, at once.
        warn_of_missing(&read(&key, &node, format).await?, format);
        follow(node.client().watch(key.clone()).await?, format).await
    };
    tokio::select! {
        ended = work => match ended? {},
        _ = stop.asked() => Ok(ExitCode::SUCCESS),
    }
}

/// Prints the record at each change. The end of the stream is a failure: only the user stops it.
async fn follow(mut watch: Watch, format: Format) -> Result<Infallible> {
    while let Some(snapshot) = watch.next().await {
        show(&snapshot, format)?;
    }
    Err(watch.error().unwrap_or(ClientError::Stopped).into())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_watch_that_ends_by_itself_is_a_failure() {
        let node = Host::builder().start().await.unwrap();
        let watch = node.client().watch("/sr/a").await.unwrap();
        drop(node);
        let ended = follow(watch, Format::Json).await.unwrap_err();
        assert_eq!(ended.downcast_ref(), Some(&ClientError::Stopped));
    }
}
