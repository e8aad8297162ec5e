//! `smart-record publish`, `put` and `withdraw`.
//!
//! **Invariants.** A write is a success only if a peer keeps it, as far as that can be found out:
//! one that shows it, or, if the peers cannot be read, one that has acknowledged it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use libp2p::{PeerId, identity::Keypair};
use libp2p_smart_record::{
    Clock, RecordKey, Registry, Seq, Stamp, StampSearch, SystemClock, ValidationError, Writer,
    client::{ClientError, Publication, PublicationContent, ReplicaState},
    query::ReadPolicy,
    store::WriteError,
};
use serde_json::Value;
use smart_record_host::Host;

use crate::{
    content::{self, Content},
    failure::{self, Failure},
    files, keys,
    network::{NetworkArguments, answered, check_reached, finish},
    output::{self, Format, progress},
    records,
    signing::{Contents, CurrentContent, NewValue},
};

/// How many tries of a search for a stamp are made between two looks at the progress.
const TRIES: u64 = 10_000;

/// What is said of an update whose stamp is not good for it.
const NO_WORK: &str = "the update was signed on another day (UTC) than its stamp was found for, and \
                       has no work; repeat the command";

/// Text below the help of `publish`.
const EXAMPLES: &str = "\
Examples:
  smart-record publish /sr/rooms/lobby '{\"name\": \"ada\"}' --lifetime 10m -k ada.key -c ADDRESS
  smart-record publish /sr/rooms/lobby '{\"name\": \"ada\"}' --work 22 -k ada.key -c ADDRESS
  smart-record publish /ipns/self /ipfs/bafkqaaa --lifetime 24h --ttl 5m -k ada.key -c ADDRESS
  smart-record publish /iprs/self/motd '\"hello\"' -k ada.key -c ADDRESS
  smart-record publish /pk/self -k ada.key -c ADDRESS

`self` stands for the peer id of --key. The key may be one of kubo: `ipfs key export`. What is
published under /ipns/ and /iprs/ replaces what there is; the next number is taken from the network,
and has to be given if not enough of the closest peers answer.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    /// The key: /sr/PATH, /ipns/NAME, /iprs/PEER/NAME or /pk/PEER, where NAME and PEER may be
    /// `self`.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    #[command(flatten)]
    contents: Contents,
    /// Replaces everything in our space of a smart record, instead of merging into it.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    work: Work,
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

#[derive(clap::Args)]
pub struct Withdraw {
    /// The key of a smart record, such as /sr/rooms/lobby.
    #[arg(value_name = "KEY")]
    key_of_record: String,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    network: NetworkArguments,
}

/// Arguments of `publish` and `withdraw`.
#[derive(clap::Args)]
struct Work {
    /// Spends work on the update of a smart record: 2^BITS hashes on average, 0.1 s of a core for
    /// 20 and twice as long for each more. Of a board with too many writers those of the most work
    /// stay; less than 19 bits count as none there. Nodes that demand work demand it of
    /// withdrawals too. Ctrl-C ends the search.
    #[arg(long = "work", value_name = "BITS")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=40))]
    bits: Option<u8>,
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

pub async fn publish(arguments: Publish, format: Format) -> Result<ExitCode> {
    let Publish { key_of_record, contents, replace, work, write } = arguments;
    let key = write.network.record_key(&key_of_record)?;
    if key.namespace() == Some(Registry::SMART_RECORDS) {
        let (document, ttl) = contents.document()?;
        let shown = document.to_json();
        let (node, stamp) = work.join(&key, &write.network).await?;
        let published = progress("writing", async {
            match replace {
                true => node.client().replace(key.clone(), document, ttl).await,
                false => node.client().publish(key.clone(), document, ttl).await,
            }
        });
        let published = stamped(published.await, stamp, &node, format);
        return conclude(&key, published, Some(shown), write.confirm, &node, format).await;
    }
    let only_for_spaces = [
        (
            replace,
            "--replace",
            "what is published under another key than /sr/… replaces what there is",
        ),
        (work.bits.is_some(), "--work", "only updates of smart records, under /sr/…, have work"),
    ];
    if let Some((_, name, hint)) = only_for_spaces.into_iter().find(|(is_given, ..)| *is_given) {
        let message = format!("{name} means nothing for {key_of_record}");
        return Err(Failure::Arguments { message, hint }.into());
    }
    let is_signer = write.network.key.is_some();
    let keypair = write.network.keypair()?;
    let public_key = keypair.public();
    let namespace = key.namespace().unwrap_or_default();
    let new_value = contents.new_value(namespace, Some(&public_key).filter(|_| is_signer))?;
    if !matches!(new_value, NewValue::PublicKey(_)) {
        check_owner(&key, is_signer, &keypair)?;
    }
    let node = write.network.join_as(keypair.clone()).await?;
    let value = value(&key, &contents, new_value, &keypair, &node, format).await?;
    let published = progress("writing", node.client().put(key.clone(), value)).await;
    conclude(&key, published, None, write.confirm, &node, format).await
}

impl Work {
    /// Joins the network as a writer whose updates under a key have a stamp, if there is work to
    /// spend on them.
    async fn join(
        self,
        key: &RecordKey,
        network: &NetworkArguments,
    ) -> Result<(Host, Option<Stamp>)> {
        let keypair = network.keypair()?;
        network.check_address()?;
        let stamp = self.bits.map(|bits| stamp(key, &keypair, bits));
        let node = network.join_as(keypair).await?;
        if stamp.is_some() {
            node.client().set_stamp(key.clone(), stamp).await?;
        }
        Ok((node, stamp))
    }
}

/// What was published, and a warning if the stamp that was found for it is not good for it.
fn stamped(
    published: Result<Publication, ClientError>,
    stamp: Option<Stamp>,
    node: &Host,
    format: Format,
) -> Result<Publication, ClientError> {
    let publication = published.or_else(ClientError::into_publication)?;
    if stamp.is_some_and(|stamp| is_wasted(stamp, &publication, node)) {
        failure::warn(format.is_json(), NO_WORK);
    }
    Ok(publication)
}

/// Whether the update that was published is of another day than a stamp, or of another writer.
fn is_wasted(stamp: Stamp, publication: &Publication, node: &Host) -> bool {
    let rank = node.client().writer().rank(&publication.key);
    publication.update().is_some_and(|update| stamp.work(&rank, update.seq()) == 0)
}

/// Finds a stamp of these bits for what the signer writes under a key today. If the day ends during
/// the search, another one is found.
fn stamp(key: &RecordKey, keypair: &Keypair, bits: u8) -> Stamp {
    let rank = Writer::from(&keypair.public()).rank(key);
    let today = || Seq::next(None, SystemClock.now());
    loop {
        let mut search = StampSearch::new(rank, today(), bits);
        let expected = search.expected();
        let found = output::search("finding a stamp", expected, || {
            let found = search.step(TRIES);
            (search.tried(), found)
        });
        if found.work(&rank, today()) > 0 {
            return found;
        }
    }
}

/// Checks that the signer is the one that the key names.
fn check_owner(key: &RecordKey, is_signer: bool, keypair: &Keypair) -> Result<(), Failure> {
    if !is_signer {
        return Err(Failure::NoKey);
    }
    let owner = keypair.public().to_peer_id();
    match keys::owner(key) == Some(owner) {
        true => Ok(()),
        false => Err(Failure::NotOwner { key: keys::show(key), owner }),
    }
}

/// Signs what is to be published. Its sequence or version follows the current one.
async fn value(
    key: &RecordKey,
    contents: &Contents,
    new_value: NewValue,
    keypair: &Keypair,
    node: &Host,
    format: Format,
) -> Result<Vec<u8>> {
    let is_public_key = matches!(new_value, NewValue::PublicKey(_));
    let current = match contents.uses_current() && !is_public_key {
        true => read_current(key, node, format).await?,
        false => CurrentContent { content: None, is_known: false },
    };
    if contents.needs_current() && !current.is_known && !is_public_key {
        return Err(Failure::UnknownContent { key: keys::show(key) }.into());
    }
    let now = SystemClock.now();
    Ok(match new_value {
        NewValue::Path(path) => contents.ipns(&path, keypair, &current, now)?.as_bytes().to_vec(),
        NewValue::Value(value) => contents.iprs(key, value, keypair, &current, now)?,
        NewValue::PublicKey(public_key) => public_key.encode_protobuf(),
    })
}

/// Reads the current content of a key.
async fn read_current(key: &RecordKey, node: &Host, format: Format) -> Result<CurrentContent> {
    let read = node.client().get_with(key.clone(), ReadPolicy::All);
    match progress("reading what there is", read).await {
        // What has expired is no longer there, whatever its number was.
        Err(ClientError::AnswersRefused(refused)) if refused.have_expired() => {
            Ok(CurrentContent { content: None, is_known: true })
        }
        read => {
            let reading = answered(key, node, read).await?;
            records::warn_of_refused(&reading, format);
            let content = Content::of(&reading.snapshot)?;
            Ok(CurrentContent { content, is_known: reading.is_complete() })
        }
    }
}

pub async fn put(arguments: Put, format: Format) -> Result<ExitCode> {
    let Put { key_of_record, file, write } = arguments;
    let key = write.network.record_key(&key_of_record)?;
    let value = read_file(&file)?;
    let node = write.network.join().await?;
    let published = progress("writing", node.client().put(key.clone(), value)).await;
    conclude(&key, published, None, write.confirm, &node, format).await
}

fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let name = file.display().to_string();
    files::read(file).map_err(|source| Failure::File { file: name, verb: "read", source })
}

pub async fn withdraw(arguments: Withdraw, format: Format) -> Result<ExitCode> {
    let Withdraw { key_of_record, work, network } = arguments;
    let key = network.record_key(&key_of_record)?;
    if network.key.is_none() {
        return Err(Failure::NoKey.into());
    }
    if key.namespace() != Some(Registry::SMART_RECORDS) {
        return Err(ClientError::NotSmart(key).into());
    }
    let (node, stamp) = work.join(&key, &network).await?;
    let withdrawn = progress("withdrawing", node.client().withdraw(key.clone())).await;
    let withdrawn = stamped(withdrawn, stamp, &node, format);
    conclude(&key, withdrawn, None, false, &node, format).await
}

/// Shows what was published, if a peer keeps it.
async fn conclude(
    key: &RecordKey,
    published: Result<Publication, ClientError>,
    document: Option<Value>,
    confirm: bool,
    node: &Host,
    format: Format,
) -> Result<ExitCode> {
    let (publication, holders) = kept(key, published, confirm, node, format).await?;
    written(&publication, document, holders.as_deref(), node, format)
}

/// The publication, if a peer keeps it, and the peers that hold it if they were read.
pub async fn kept(
    key: &RecordKey,
    published: Result<Publication, ClientError>,
    confirm: bool,
    node: &Host,
    format: Format,
) -> Result<(Publication, Option<Vec<PeerId>>)> {
    let publication = match published.or_else(ClientError::into_publication) {
        Err(ClientError::Refused(WriteError::Refused(ValidationError::Stale))) => {
            return Err(older(key, node).await.into());
        }
        published => published.with_context(|| format!("failed to write {}", keys::show(key)))?,
    };
    if let Some(refused) = &publication.refused {
        records::warn_of(refused, format);
    }
    // The peers are asked for it in the background.
    finish(node).await;
    let state = publication.progress();
    let acknowledged = state.acknowledged().count();
    let refused = state.peers(ReplicaState::Refused).count();
    if acknowledged == 0 {
        check_reached(node).await?;
    }
    if acknowledged == 0 && refused == 0 {
        return Err(Failure::NotTaken.into());
    }
    let is_shown = state.peers(ReplicaState::Shown).next().is_some();
    if is_shown && !confirm {
        return Ok((publication, None));
    }
    let shown = || keys::show(key);
    match progress("reading it back", node.client().confirm(&publication)).await {
        Ok(holders) if acknowledged > 0 || !holders.is_empty() => Ok((publication, Some(holders))),
        Err(ClientError::Refused(WriteError::Refused(ValidationError::Stale))) => {
            Err(older(key, node).await.into())
        }
        Err(ClientError::AnswersRefused(refused)) => {
            Err(Failure::AnswersRefused { key: shown(), refused }.into())
        }
        Err(ClientError::NotKept) if acknowledged > 0 => {
            Err(Failure::NotKept { key: shown(), acknowledged }.into())
        }
        Ok(_) | Err(ClientError::NotKept) => {
            Err(Failure::NotAccepted { key: shown(), refused }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A failure that tells what there is in the place of something older.
async fn older(key: &RecordKey, node: &Host) -> Failure {
    let current = async {
        let reading = node.client().get(key.clone()).await.ok()?;
        Content::of(&reading.snapshot).ok()??.summary()
    };
    Failure::Older { key: keys::show(key), current: current.await }
}

fn written(
    publication: &Publication,
    document: Option<Value>,
    holders: Option<&[PeerId]>,
    node: &Host,
    format: Format,
) -> Result<ExitCode> {
    let taken: Vec<_> = publication.progress().acknowledged().collect();
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
        fields.insert("peers".to_owned(), records::peers(&taken));
        if let Some(holders) = holders {
            fields.insert("confirmed".to_owned(), records::peers(holders));
        }
        Value::Object(fields)
    };
    let text = || {
        let acknowledged = taken.len();
        let summary = content.as_ref().and_then(Content::summary);
        let whose = match update {
            Some(update) => format!("{}, seq {}", node.peer_id(), update.seq()),
            None => [keys::show(&publication.key)]
                .into_iter()
                .chain(summary)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let held = holders.map(|peers| format!("; held by {}", peers.len())).unwrap_or_default();
        let peers = if acknowledged == 1 { "peer" } else { "peers" };
        format!("{whose}: acknowledged by {acknowledged} {peers}{held}")
    };
    format.line(json, text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use libp2p_smart_record::Dict;
    use smart_record_host::HostBuilder;

    use super::*;

    const KEY: &str = "/sr/cli/board";

    #[tokio::test]
    async fn a_stamp_of_the_day_before_the_update_is_wasted() {
        const DAY: u64 = 24 * 60 * 60 * 1_000_000;
        let keypair = Keypair::generate_ed25519();
        let rank = Writer::from(&keypair.public()).rank(&KEY.into());
        let node = HostBuilder::with_keypair(keypair).start().await.unwrap();
        let published = node.client().publish(KEY, Dict::new(), Duration::from_secs(60)).await;
        let publication = published.or_else(ClientError::into_publication).unwrap();
        let seq = publication.update().unwrap().seq();
        let found = |seq| {
            let mut search = StampSearch::new(rank, seq, 8);
            std::iter::from_fn(move || search.step(1 << 16))
        };
        assert!(!is_wasted(found(seq).next().unwrap(), &publication, &node));
        // One that is good today too is possible.
        let mut yesterday = found(Seq::from_micros(seq.as_micros().checked_sub(DAY).unwrap()));
        let yesterday = yesterday.find(|stamp| stamp.work(&rank, seq) == 0).unwrap();
        assert!(is_wasted(yesterday, &publication, &node));
    }
}
