//! `smart-record node`: a node of the DHT, until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_smart_record::store::{Durability, RedbConfig, SmartRecordStore, StoreConfig};
use serde_json::json;
use smart_record_host::{Host, HostBuilder};

use crate::{
    failure::{self, Failure},
    keys,
    network::Network,
    output::{Format, progress},
    stop::Stop,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen, TCP or QUIC. May be given again.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    listen: Vec<Multiaddr>,
    /// Keeps the records in this file, which is made if it is not there, over restarts. It belongs to the node's key: that of
    /// --key, or one that is made beside it the first time, in FILE.key.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Has each write on disk before it is acknowledged. Otherwise a loss of power costs the last tenth of a second.
    #[arg(long, requires = "store")]
    sync: bool,
    #[command(flatten)]
    network: Network,
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
            let opened = SmartRecordStore::open_with(file, local, rules, config, &on_disk);
            opened.map_err(Failure::Store)?
        }
    };
    serve(network.builder(keypair, store)?, listen, &network, format).await
}

/// Prints the addresses, one a line, each as `--connect` takes it, and runs until it is told to stop.
async fn serve(
    builder: HostBuilder,
    listen: Vec<Multiaddr>,
    network: &Network,
    format: Format,
) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let node = listen.into_iter().fold(builder, HostBuilder::listen_on).start().await?;
    show(&node, format).await.or_else(unread)?;
    let work = async {
        // So that those it knows learn of it, and it of those close to it.
        let key = format!("/sr/{}", node.peer_id());
        let joined = progress("joining", node.client().get(key)).await;
        let mut trouble = joined.err().map(|error| error.to_string());
        if !network.connect.is_empty() && node.peers().await?.is_empty() {
            trouble = Some("nobody of --connect could be reached".to_owned());
        }
        if let Some(trouble) = trouble {
            let message = format!("{trouble}; others can reach this node all the same");
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
    // What waits to be written is written before the store is closed.
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

/// Whoever has read the first address may want no more of them, and use the node.
fn unread(error: anyhow::Error) -> Result<()> {
    if failure::is_unread(&error) { Ok(()) } else { Err(error) }
}
