//! `smart-record node`: a node of the DHT, until it is told to stop.

use std::process::ExitCode;

use anyhow::Result;
use libp2p::{Multiaddr, kad, multiaddr::Protocol};
use serde_json::json;

use crate::network::Network;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen, TCP or QUIC. May be given again.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    listen: Vec<Multiaddr>,
    #[command(flatten)]
    network: Network,
}

/// Prints the addresses, one a line, each as `--connect` takes it, and runs until Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { listen, network } = arguments;
    let node = network.start(network.keypair()?, kad::Mode::Server, &listen).await?;
    for address in node.addresses().await? {
        let address = address.with(Protocol::P2p(node.peer_id())).to_string();
        if network.json {
            println!("{}", json!({ "address": address }));
        } else {
            println!("{address}");
        }
    }
    // So that those it knows learn of it, and it of those close to it.
    node.client().get(format!("/sr/{}", node.peer_id()).as_str()).await?;
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}
