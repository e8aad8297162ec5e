//! `smart-record inspect`: all details of a record, in a file or in the network.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use libp2p_smart_record::{
    Clock, RecordKey, SignedUpdate, SmartRecord, Space, SystemClock, Timestamp, UpdateKind, Writer,
    query::Reading,
};
use serde_json::{Map, Value, json};

use crate::{
    content::{self, Content, ContentKind, left},
    failure::Failure,
    files, keys,
    missing::percent,
    network::{NetworkArguments, finish},
    output::{Format, Rows, json_cell},
    records,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// A key, whose record is read from the network (with --connect), or a file with the bytes of
    /// a record (with --under).
    #[arg(value_name = "FILE|KEY")]
    what: String,
    /// The key of the record in the file, for which it was signed.
    #[arg(long, value_name = "KEY")]
    under: Option<String>,
    #[command(flatten)]
    network: NetworkArguments,
}

pub async fn run(arguments: Arguments, format: Format) -> Result<ExitCode> {
    let Arguments { what, under, network } = arguments;
    match under {
        Some(under) => in_file(&what, network.record_key(&under)?, format),
        None if network.record_key(&what).is_err() && Path::new(&what).exists() => {
            Err(Failure::Arguments {
                message: format!("{what} is a file, and its key is missing"),
                hint: "give --under the key of the record",
            }
            .into())
        }
        None => in_network(&what, &network, format).await,
    }
}

fn in_file(file: &str, key: RecordKey, format: Format) -> Result<ExitCode> {
    let value = files::read(Path::new(file)).map_err(|source| Failure::File {
        file: file.to_owned(),
        verb: "read",
        source,
    })?;
    let now = SystemClock.now();
    let content = Content::read(&key, &value, now).map_err(|source| Failure::BadRecord {
        file: file.to_owned(),
        key: keys::show(&key),
        source: Box::new(source),
    })?;
    show(&content, None, now, format)
}

async fn in_network(key: &str, network: &NetworkArguments, format: Format) -> Result<ExitCode> {
    let key = network.record_key(key)?;
    let node = network.join().await?;
    let (reading, content) = records::find(&key, &node, format, |it, _| Some(it)).await?;
    let shown = show(&content, Some(&reading), reading.snapshot.at, format);
    finish(&node).await;
    shown
}

fn show(
    content: &Content,
    reading: Option<&Reading>,
    now: Timestamp,
    format: Format,
) -> Result<ExitCode> {
    if format.is_json() {
        let json = || {
            let mut fields = content.json(now);
            if let ContentKind::Smart(record) = &content.kind {
                fields.insert("spaces".to_owned(), spaces(record, now));
            }
            fields.extend(reading.map(peers).unwrap_or_default());
            Value::Object(fields)
        };
        format.line(json, String::new)?;
        return Ok(ExitCode::SUCCESS);
    }
    let heading = || {
        let summary = content.summary().into_iter().chain(content.ttl(now));
        let parts = [format!("{} bytes", content.bytes.len())].into_iter().chain(summary);
        format!("{}: {}", keys::show(&content.key), parts.collect::<Vec<_>>().join(", "))
    };
    format.line(|| Value::Null, heading)?;
    let rows = || match &content.kind {
        ContentKind::Smart(record) => space_rows(record, now),
        _ => content.rows(now),
    };
    format.rows(|| Value::Null, rows)?;
    if let Some(reading) = reading {
        format.rows(|| Value::Null, || peer_rows(reading))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bytes(space: &Space) -> usize {
    space.updates().map(|update| update.as_bytes().len() + update.signature().len()).sum()
}

/// The extension fields of an update by number, in hexadecimal.
fn extensions(update: &SignedUpdate) -> Value {
    let extensions = update.extensions();
    let hex = |bytes: &[u8]| keys::hex(bytes).into();
    let fields = extensions.iter().map(|(number, bytes)| (number.to_string(), hex(bytes)));
    Value::Object(fields.collect())
}

/// All spaces, including those without visible content.
fn spaces(record: &SmartRecord, now: Timestamp) -> Value {
    let space = |writer: &Writer, space: &Space| -> Map<String, Value> {
        let rank = writer.rank(record.key());
        let updates = space.updates().map(|update| {
            json!({
                "seq": update.seq().to_string(),
                "kind": match update.kind() {
                    UpdateKind::Merge => "merge",
                    UpdateKind::Replace => "replace",
                    _ => "unknown",
                },
                "expires_at": update.expires_at().to_string(),
                "retain_until": update.retain_until().to_string(),
                "bytes": update.as_bytes().len(),
                "work": update.work(&rank),
                "extensions": extensions(update),
            })
        });
        let view = space.view(now);
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("seq", space.newest().map(|newest| newest.seq.to_string()).into());
        set("expires_at", view.as_ref().map(|view| view.expires_at.to_string()).into());
        set("retain_until", space.retain_until().map(|at| at.to_string()).into());
        set("bytes", bytes(space).into());
        set("work", space.work(&rank).into());
        set("document", view.map_or(Value::Null, |view| view.document.to_json()));
        set("updates", updates.collect());
        fields
    };
    let whole = record.spaces().map(|(writer, of_writer)| {
        let mut fields = space(writer, of_writer);
        fields.insert("writer".to_owned(), writer.to_string().into());
        Value::Object(fields)
    });
    whole.collect()
}

fn space_rows(record: &SmartRecord, now: Timestamp) -> Rows {
    let row = |(writer, space): (&Writer, &Space)| -> Vec<String> {
        let view = space.view(now);
        vec![
            writer.to_string(),
            space.newest().map(|newest| newest.seq.to_string()).unwrap_or_default(),
            space.updates().len().to_string(),
            bytes(space).to_string(),
            content::work(record, writer).to_string(),
            view.as_ref().map_or_else(|| "-".to_owned(), |view| left(view.expires_at, now)),
            space.retain_until().map(|at| left(at, now)).unwrap_or_default(),
            view.map_or_else(|| "(nothing)".to_owned(), |view| json_cell(&view.document.to_json())),
        ]
    };
    Rows {
        header: vec![
            "writer",
            "seq",
            "updates",
            "bytes",
            "work",
            "expires in",
            "kept for",
            "document",
        ],
        rows: record.spaces().map(row).collect(),
    }
}

/// The peers of a reading by what they hold.
fn peers(reading: &Reading) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("complete", reading.is_complete().into());
    set("missing", reading.missing().into());
    let coverage = reading.holders.iter().filter_map(|peer| {
        let coverage = reading.coverage(peer)?;
        Some(
            json!({ "peer": peer.to_string(), "spaces": coverage.spaces, "share": coverage.share }),
        )
    });
    set("coverage", coverage.collect());
    set("peers", records::peers(&reading.holders));
    set("stale", records::peers(&reading.stale));
    set("empty", records::peers(&reading.empty));
    set("refused", records::refused(reading));
    fields
}

fn peer_rows(reading: &Reading) -> Rows {
    let has = |peer| {
        let has = if reading.stale.contains(peer) { "is behind" } else { "has it" };
        match reading.coverage(peer) {
            Some(coverage) if coverage.share < 1.0 => {
                let (spaces, share) = (coverage.spaces, percent(coverage.share));
                format!("{has}; {spaces} spaces, of which it has shown {share}")
            }
            _ => has.to_owned(),
        }
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let holders = reading.holders.iter();
    rows.extend(holders.map(|peer| vec![peer.to_string(), has(peer)]));
    let empty = reading.empty.iter();
    rows.extend(empty.map(|peer| vec![peer.to_string(), "has nothing".to_owned()]));
    let refused = reading.refused.iter();
    rows.extend(refused.map(|(peer, why)| vec![peer.to_string(), format!("refused: {why}")]));
    Rows { header: vec!["peer", "answer"], rows }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use libp2p_smart_record::{Dict, Extensions, Limits, Seq, Update};

    use super::*;

    #[test]
    fn extension_fields_are_shown() {
        let now = SystemClock.now();
        let extensions = Extensions::new().with(16, [0xab, 1]).unwrap().with(31, []).unwrap();
        let update = Update {
            seq: Seq::next(None, now),
            expires_at: now,
            retain_until: now,
            kind: UpdateKind::Merge,
            document: Dict::new(),
            extensions,
        };
        let update = update.sign(&"/sr/a".into(), &Keypair::generate_ed25519(), &Limits::default());
        assert_eq!(super::extensions(&update.unwrap()), json!({ "16": "ab01", "31": "" }));
    }
}
