//! `smart-record node`: a node of the DHT, until it is stopped.

use std::{
    collections::BTreeSet, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration,
};

use anyhow::Result;
use indicatif::{HumanBytes, HumanDuration, ProgressBar};
use libp2p::{Multiaddr, autonat, relay};
use libp2p_smart_record::{
    metrics::Metrics,
    store::{Durability, OpenOptions, RedbConfig, SmartRecordStore, StoreConfig},
};
use prometheus_client::registry::Registry;
use serde_json::json;
use smart_record_host::{Host, HostBuilder, HostStatus, Reachability};

use crate::{
    failure::{self, Failure},
    keys,
    metrics::MetricsServer,
    network::NetworkArguments,
    output::{Format, progress},
    stop::Stop,
};

/// Interval between two looks at the node.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Text below the help.
const DEFAULTS: &str = "\
A node has ping, identify, Noise, TLS, names in addresses and dials through relays. Its connections
are limited by the files that the process may have open (`ulimit -n`): with 1,024, 372 connections
from others and 248 to others; when it is full, the oldest of strangers are closed. Connections on
which nothing happens are closed after a minute. Nodes of --connect and --relay are tried again
after 1 s, 2 s, 4 s and so on up to a minute. On a terminal a line shows what the node does.
Without --json, what an operator should look into is logged.";

#[derive(clap::Args)]
#[command(after_help = DEFAULTS)]
pub struct Arguments {
    /// An address to listen on, TCP or QUIC. May be repeated.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0", value_name = "ADDRESS", value_parser = keys::address)]
    listen: Vec<Multiaddr>,
    /// An address at which others reach this node and on which it does not listen itself, such as
    /// a forwarded port of a router. May be repeated.
    #[arg(long, value_name = "ADDRESS", value_parser = keys::address)]
    external: Vec<Multiaddr>,
    /// Has other nodes check whether they can reach this one, and checks that for them. A node that
    /// nobody can reach becomes a client: others send it nothing. For nodes on the Internet.
    #[arg(long)]
    autonat: bool,
    /// Can be reached through this relay, an address that ends in `/p2p/<peer id>`. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS", value_parser = keys::address)]
    relay: Vec<Multiaddr>,
    /// Relays connections of nodes behind a NAT: at most 128 nodes, 16 connections at a time, each
    /// for 2 minutes and 128 KiB.
    #[arg(long)]
    serve_relay: bool,
    /// Shows the node's counters to Prometheus, at http://ADDRESS/metrics, which is printed on
    /// standard error.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Keeps the records in this file over restarts, and creates it if it does not exist. The file
    /// belongs to the node's key: --key, or a key in FILE.key, which is made the first time. A
    /// record is removed when it expires, and a value of another kind 48h after it was last sent.
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
    let (rules, config) = (libp2p_smart_record::built_in(), StoreConfig::default());
    let network = &arguments.network;
    let keypair = match (&arguments.store, &network.key) {
        (Some(file), None) => keys::beside(file)?,
        _ => network.keypair()?,
    };
    let local = keypair.public().to_peer_id();
    let store = match &arguments.store {
        None => SmartRecordStore::with_registry(local, rules, config),
        Some(file) => {
            let sync = arguments.sync;
            let durability = if sync { Durability::Immediate } else { Durability::default() };
            let on_disk = RedbConfig::default().with_durability(durability);
            let options = OpenOptions::default().with_registry(rules).with_config(config);
            options.with_file(on_disk).open(file, local).map_err(Failure::Store)?
        }
    };
    let mut builder = network.builder(keypair, store)?;
    if let Some(address) = arguments.metrics {
        let mut registry = Registry::default();
        builder = builder.with_metrics(&Metrics::new(&mut registry));
        let server = MetricsServer::bind(address, registry).await?;
        let at = format!("http://{}/metrics", server.address());
        failure::note(format.is_json(), "metrics", &at);
        tokio::spawn(server.run());
    }
    serve(arguments.configured(builder), &arguments, format).await
}

impl Arguments {
    fn configured(&self, mut builder: HostBuilder) -> HostBuilder {
        builder = self.listen.iter().cloned().fold(builder, HostBuilder::listen_on);
        builder = self.external.iter().cloned().fold(builder, HostBuilder::with_external_address);
        builder = self.relay.iter().cloned().fold(builder, HostBuilder::with_relay);
        if self.autonat {
            builder = builder.with_autonat(autonat::Config::default());
        }
        if self.serve_relay {
            builder = builder.as_relay(relay::Config::default());
        }
        builder
    }
}

/// Prints the addresses, one per line, in the form that `--connect` takes, and runs until it is
/// stopped.
async fn serve(builder: HostBuilder, arguments: &Arguments, format: Format) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let node = tokio::select! {
        started = builder.start() => started?,
        // A relay to listen through may be silent.
        _ = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    let mut shown = BTreeSet::new();
    show(&node, node.addresses().await?, &mut shown, format)?;
    let work = async {
        // This lookup makes the node known to the peers close to it, and them to it.
        let key = format!("/sr/{}", node.peer_id());
        let joined = progress("joining", node.client().get(key)).await;
        let mut trouble = joined.err().map(|error| error.to_string());
        if !arguments.network.connect.is_empty() && node.peers().await?.is_empty() {
            trouble =
                Some("no node of --connect could be reached; they are tried again".to_owned());
        }
        if let Some(trouble) = trouble {
            let message = format!("{trouble}; other nodes can reach this node");
            failure::warn(format.is_json(), &message);
        }
        look_after(&node, &mut shown, format).await
    };
    tokio::select! {
        failed = work => failed?,
        _ = stop.asked() => {}
    }
    // Waiting writes are done before the store is closed.
    progress("closing", node.ended()).await;
    Ok(ExitCode::SUCCESS)
}

/// Shows on a terminal what the node does, and prints the addresses that it gets later. Returns if
/// the node fails.
async fn look_after(node: &Host, shown: &mut BTreeSet<Multiaddr>, format: Format) -> Result<()> {
    // Hidden unless standard error is a terminal; cleared when it is dropped.
    let line = ProgressBar::new_spinner();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        let status = node.status().await?;
        let stored = node.run(|records| records.store_mut().usage()).await?;
        let stored = format!("{} records, {}", stored.records, HumanBytes(stored.bytes as u64));
        let age = HumanDuration(line.elapsed());
        line.set_message(format!("{}; {stored}; for {age}", describe(&status)));
        line.tick();
        let addresses = node.addresses().await?;
        line.suspend(|| show(node, addresses, shown, format))?;
    }
}

fn describe(status: &HostStatus) -> String {
    let role = match (status.is_server, &status.reachability) {
        (true, Reachability::Public(_)) => "server, reachable",
        (true, _) => "server",
        (false, Reachability::Private) => "client, for nobody can reach it",
        (false, _) => "client",
    };
    format!("{role}; {} of {} known peers connected", status.peers, status.known)
}

/// Prints those of a node's addresses that were not shown yet.
fn show(
    node: &Host,
    addresses: Vec<Multiaddr>,
    shown: &mut BTreeSet<Multiaddr>,
    format: Format,
) -> Result<()> {
    let peer = node.peer_id();
    for address in addresses {
        // An address through a relay ends in the id already.
        let address = address.with_p2p(peer).unwrap_or_else(|address| address);
        if shown.insert(address.clone()) {
            let both = || json!({ "address": address.to_string(), "peer": peer.to_string() });
            let printed = format.line(both, || address.to_string());
            printed.map_err(Into::into).or_else(allow_broken_pipe)?;
        }
    }
    Ok(())
}

/// The reader may close standard output after the first address and use the node.
fn allow_broken_pipe(error: anyhow::Error) -> Result<()> {
    if failure::is_broken_pipe(&error) { Ok(()) } else { Err(error) }
}
