//! Nodes of the demo, and access to them beyond what a client offers.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use libp2p::{Multiaddr, PeerId, StreamProtocol, identity::Keypair, kad, multiaddr::Protocol};
use libp2p_smart_record::{
    RecordKey, SmartRecord,
    store::{Events, StoreEvent},
};
use smart_record_host::{Host, HostBuilder};

/// Protocol of these nodes, which keeps them apart from other DHTs.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-record-demo/kad/1.0.0");
/// Longest wait for an event of a replica.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node on a free port of the loopback interface, which finds the others through the node at
/// `first`.
pub async fn start(keypair: Keypair, first: Option<&Multiaddr>) -> Result<Host> {
    let builder = HostBuilder::with_keypair(keypair)
        .with_protocol(PROTOCOL)
        .listen_on("/ip4/127.0.0.1/tcp/0".parse()?);
    Ok(first.cloned().into_iter().fold(builder, HostBuilder::bootstrap).start().await?)
}

/// The address at which others reach a node.
pub async fn address(node: &Host) -> Result<Multiaddr> {
    let address = node.addresses().await?.into_iter().next().context("it listens nowhere")?;
    Ok(address.with(Protocol::P2p(node.peer_id())))
}

/// Looks up the node's neighbours and returns the number of known peers.
pub async fn look_around(node: &Host) -> Result<usize> {
    node.client().get(format!("/sr/{}", node.peer_id()).as_str()).await?;
    let count = node.run(|records| {
        records.kad_mut().kbuckets().map(|bucket| bucket.num_entries()).sum::<usize>()
    });
    Ok(count.await?)
}

/// The whole record in the node's own store.
pub async fn stored(node: &Host, key: &RecordKey) -> Result<Option<SmartRecord>> {
    let key = key.clone();
    Ok(node.run(move |records| records.store_mut().record(&key)).await??)
}

/// The record as the node's peers hold it, without the node's own copy.
pub async fn read(node: &Host, key: &RecordKey) -> Result<SmartRecord> {
    let own = key.clone();
    node.run(move |records| records.store_mut().forget(&own)).await??;
    let found = node.client().get(key.clone()).await?.snapshot.record().cloned();
    Ok(found.unwrap_or_else(|| SmartRecord::new(key.clone())))
}

/// Sends any value to one peer, which a client would not do.
pub async fn send(node: &Host, to: PeerId, key: &RecordKey, value: Vec<u8>) -> Result<()> {
    let record = kad::Record::new(kad::RecordKey::new(key), value);
    node.run(move |records| {
        records.kad_mut().put_record_to(record, [to].into_iter(), kad::Quorum::One);
    })
    .await?;
    Ok(())
}

/// Events of the node's store from now on.
pub async fn events(node: &Host) -> Result<Events> {
    Ok(node.run(|records| records.store_mut().subscribe()).await?)
}

/// The first result of `wanted` for an event, if it comes in time.
pub async fn until<T>(
    events: &mut Events,
    mut wanted: impl FnMut(StoreEvent) -> Option<T>,
) -> Option<T> {
    let search = async {
        while let Some(event) = events.next().await {
            if let Some(found) = wanted(event) {
                return Some(found);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, search).await.ok().flatten()
}
