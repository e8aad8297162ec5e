//! A chat: a room is a key, a message is an update with a lifetime, and a present user keeps its
//! name alive.
//!
//! In two terminals, the second with the address that the first one prints:
//!
//! ```sh
//! cargo run --example chat -- --nick ada
//! cargo run --example chat -- --nick bob --connect /ip4/127.0.0.1/tcp/…/p2p/…
//! ```
//!
//! Each line is a message. Ctrl-D or Ctrl-C ends.

use std::{collections::BTreeSet, error::Error, io::BufRead, pin::pin, time::Duration};

use clap::Parser;
use futures::StreamExt;
use libp2p::{Multiaddr, StreamProtocol, multiaddr::Protocol};
use libp2p_smart_record::{
    Clock, Dict, Kind, SystemClock,
    behaviour::BehaviourConfig,
    client::{ClientError, KeepHandle, Publication},
    printable,
    query::Snapshot,
};
use smart_record_host::Host;
use tokio::{signal::ctrl_c, sync::mpsc, task::JoinSet};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-record-chat/kad/1.0.0");
/// Lifetime of a message.
const MESSAGE_TTL: Duration = Duration::from_secs(10 * 60);
/// How long the name of a crashed user remains.
const NAME_TTL: Duration = Duration::from_secs(60);
/// Most messages being sent at a time; further lines wait.
const MAX_SENDING: usize = 16;

/// A write that is only stored locally is enough: there may be no other peer in the room yet.
fn made(written: Result<Publication, ClientError>) -> Result<(), ClientError> {
    written.or_else(ClientError::into_publication).map(drop)
}

/// Arguments of the command line.
#[derive(Debug, Parser)]
pub struct Arguments {
    #[arg(long, default_value = "anonymous")]
    nick: String,
    #[arg(long, default_value = "lobby")]
    room: String,
    /// The address of a user in the chat, ending in /p2p/<peer id>; may be repeated.
    #[arg(long)]
    connect: Vec<Multiaddr>,
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    listen: Multiaddr,
}

/// Prints what others wrote on one line: a terminal acts upon some characters.
fn show(line: &str) {
    println!("{}", printable(line));
}

/// Lines from the terminal, until Ctrl-D. Read on their own thread, so that waiting for a line does
/// not delay the end.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn text(document: &Dict, key: &str) -> Option<String> {
    match &document.get(key)?.kind {
        Kind::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// New messages of all writers, ordered by the time of writing.
fn news(snapshot: &Snapshot, seen: &mut BTreeSet<String>) -> Vec<String> {
    let mut news = Vec::new();
    for (writer, space) in &snapshot.view() {
        for (at, message) in space.document.iter() {
            let (Kind::String(at), Kind::Dict(message)) = (at, &message.kind) else { continue };
            if let (Some(nick), Some(text)) = (text(message, "nick"), text(message, "text"))
                && seen.insert(format!("{at} {writer}"))
            {
                news.push((at.clone(), format!("{nick}: {text}")));
            }
        }
    }
    news.sort();
    news.into_iter().map(|(_, line)| line).collect()
}

fn names(snapshot: &Snapshot) -> BTreeSet<String> {
    snapshot.view().iter().filter_map(|(_, space)| text(&space.document, "nick")).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run(Arguments::parse()).await
}

/// Chats until Ctrl-D or Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let config = BehaviourConfig::default().with_watch_interval(Duration::from_secs(2));
    let builder =
        Host::builder().with_protocol(PROTOCOL).with_config(config).listen_on(arguments.listen);
    let node = arguments.connect.into_iter().fold(builder, |b, peer| b.bootstrap(peer));
    let node = node.start().await?;
    for address in node.addresses().await? {
        eprintln!("--connect {}", address.with(Protocol::P2p(node.peer_id())));
    }

    // Created once, so that Ctrl-C is handled at any time.
    let mut stop = pin!(ctrl_c());
    let client = node.client();
    let room = format!("/sr/chat/{}/messages", arguments.room);
    let people = format!("/sr/chat/{}/people", arguments.room);
    let mut messages = client.watch(room.as_str()).await?;
    let mut presence = client.watch(people.as_str()).await?;
    // Writes run beside the loop, which meanwhile shows what others write.
    let mut sending = JoinSet::new();
    let name: Dict = [("nick", arguments.nick.as_str())].into_iter().collect();
    let (keeper, key) = (client.clone(), people.clone());
    sending.spawn(async move { keeper.keep(key, name, NAME_TTL).await.map(KeepHandle::detach) });

    let (mut lines, mut seen, mut there) = (lines(), BTreeSet::new(), BTreeSet::new());
    let mut is_over = false;
    // Lines from before Ctrl-D are sent.
    while !(is_over && sending.is_empty()) {
        tokio::select! {
            Some(snapshot) = messages.next() => {
                news(&snapshot, &mut seen).iter().for_each(|line| show(line));
            }
            Some(snapshot) = presence.next() => {
                let now = names(&snapshot);
                now.difference(&there).for_each(|nick| show(&format!("* {nick} is here")));
                there.difference(&now).for_each(|nick| show(&format!("* {nick} has left")));
                there = now;
            }
            line = lines.recv(), if !is_over && sending.len() < MAX_SENDING => match line {
                None => is_over = true,
                Some(line) => {
                    let message: Dict =
                        [("nick", arguments.nick.as_str()), ("text", &line)].into_iter().collect();
                    let at = SystemClock.now().to_string();
                    let message = [(at.as_str(), message)].into_iter().collect();
                    let (client, room) = (client.clone(), room.clone());
                    let sent = async move { client.publish(room, message, MESSAGE_TTL).await };
                    sending.spawn(async move { made(sent.await) });
                }
            },
            Some(sent) = sending.join_next() => if let Err(error) = sent? {
                eprintln!("not sent: {error}");
            },
            _ = &mut stop => break,
        }
    }
    // Messages live until they expire; the name is withdrawn at once.
    tokio::select! {
        withdrawn = client.withdraw(people.as_str()) => made(withdrawn)?,
        _ = ctrl_c() => eprintln!("not withdrawn; the name is gone in {} s", NAME_TTL.as_secs()),
    }
    Ok(())
}
