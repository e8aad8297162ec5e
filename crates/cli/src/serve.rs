//! `smart-record node`: a node of the DHT, until it is stopped.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_smart_record::store::{
    Durability, OpenOptions, RedbConfig, SmartRecordStore, StoreConfig,
};
use serde_json::json;
use smart_record_host::{Host, HostBuilder};

use crate::{
    failure::{self, Failure},
    keys,
    network::NetworkArguments,
    output::{Format, progress},
    stop::Stop,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// An address to listen on, TCP or QUIC. May be repeated.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0", value_parser = keys::address)]
    listen: Vec<Multiaddr>,
    /// Keeps the records in this file over restarts, and creates it if it does not exist. The file
    /// belongs to the node's key: --key, or a key in FILE.key, which is made the first time.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Acknowledges a write once it is on disk. Without it a loss of power can lose the last tenth
    /// of a second.
    #[arg(long, requires = "store")]
    sync: bool,
    #[command(flatten)]
    network: NetworkArguments,
}

pub async fn run(arguments: Arguments, format: Format) -> Result<ExitCode> {
    let Arguments { listen, store, sync, network } = arguments;
    let (rules, config) = (libp2p_smart_record::built_in(), StoreConfig::default());
    let keypair = match (&store, &network.key) {
        (Some(file), None) => keys::beside(file)?,
        _ => network.keypair()?,
    };
    let local = keypair.public().to_peer_id();
    let store = match store {
        None => SmartRecordStore::with_registry(local, rules, config),
        Some(file) => {
            let durability = if sync { Durability::Immediate } else { Durability::default() };
            let on_disk = RedbConfig::default().with_durability(durability);
            let options = OpenOptions::default().with_registry(rules).with_config(config);
            options.with_file(on_disk).open(file, local).map_err(Failure::Store)?
        }
    };
    serve(network.builder(keypair, store)?, listen, &network, format).await
}

/// Prints the addresses, one per line, in the form that `--connect` takes, and runs until it is
/// stopped.
async fn serve(
    builder: HostBuilder,
    listen: Vec<Multiaddr>,
    network: &NetworkArguments,
    format: Format,
) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let node = listen.into_iter().fold(builder, HostBuilder::listen_on).start().await?;
    show(&node, format).await.or_else(allow_broken_pipe)?;
    let work = async {
        // This lookup makes the node known to the peers close to it, and them to it.
        let key = format!("/sr/{}", node.peer_id());
        let joined = progress("joining", node.client().get(key)).await;
        let mut trouble = joined.err().map(|error| error.to_string());
        if !network.connect.is_empty() && node.peers().await?.is_empty() {
            trouble = Some("no node of --connect could be reached".to_owned());
        }
        if let Some(trouble) = trouble {
            let message = format!("{trouble}; other nodes can reach this node");
            failure::warn(format.is_json(), &message);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        joined = work => {
            joined?;
            stop.asked().await;
        }
        _ = stop.asked() => {}
    }
    // Waiting writes are done before the store is closed.
    progress("closing", node.ended()).await;
    Ok(ExitCode::SUCCESS)
}

async fn show(node: &Host, format: Format) -> Result<()> {
    let peer = node.peer_id();
    for address in node.addresses().await? {
        let address = address.with(Protocol::P2p(peer)).to_string();
        let both = || json!({ "address": address, "peer": peer.to_string() });
        format.line(both, || address.clone())?;
    }
    Ok(())
}

/// The reader may close standard output after the first address and use the node.
fn allow_broken_pipe(error: anyhow::Error) -> Result<()> {
    if failure::is_broken_pipe(&error) { Ok(()) } else { Err(error) }
}
