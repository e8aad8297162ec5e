//! The builder of a node.

use std::time::Duration;

use futures::channel::mpsc;
use libp2p::{
    Multiaddr, SwarmBuilder, identify, identity::Keypair, kad, multiaddr::Protocol, noise,
    swarm::behaviour::toggle::Toggle, tcp, yamux,
};
use libp2p_swarm::StreamProtocol;
use tokio::runtime::Handle;

use super::{
    Host, HostError,
    task::{HostBehaviour, HostTask},
};
use libp2p_smart_record::{
    behaviour::{Behaviour, BehaviourConfig, Builder},
    store::{OtherPeer, SmartRecordStore},
};
use smart_record_services::ServiceBuilder;

/// Idle timeout of connections: long enough for a lookup to return to a peer.
const IDLE: Duration = Duration::from_secs(60);

/// Builder of a [`Host`].
#[must_use = "call `start`"]
pub struct HostBuilder {
    keypair: Keypair,
    records: Builder,
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    mode: Option<kad::Mode>,
    service: Option<ServiceBuilder>,
}

impl HostBuilder {
    /// A builder of a node with this key.
    pub fn with_keypair(keypair: Keypair) -> Self {
        Self {
            records: Behaviour::builder(keypair.clone()),
            keypair,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mode: None,
            service: None,
        }
    }

    /// Sets the store. Defaults to a store of smart records in memory.
    ///
    /// # Errors
    /// [`OtherPeer`] if the store belongs to another peer than that of the keypair.
    pub fn with_store(mut self, store: SmartRecordStore) -> Result<Self, OtherPeer> {
        self.records = self.records.with_store(store)?;
        Ok(self)
    }

    /// Shows the node's counters and histograms in `metrics`.
    #[cfg(feature = "metrics")]
    pub fn with_metrics(mut self, metrics: &libp2p_smart_record::metrics::Metrics) -> Self {
        self.records = self.records.with_metrics(metrics);
        self
    }

    /// Sets the settings of the behaviour.
    pub fn with_config(mut self, config: BehaviourConfig) -> Self {
        self.records = self.records.with_config(config);
        self
    }

    /// Sets the protocol of the DHT. Defaults to that of the IPFS DHT.
    pub fn with_protocol(mut self, protocol: StreamProtocol) -> Self {
        self.records = self.records.with_protocol(protocol);
        self
    }

    /// Adds an address to listen on, TCP or QUIC.
    ///
    /// A node that listens is a server: other nodes send it records and requests. If they cannot
    /// reach it, because it is behind a NAT or a firewall, that costs them time; make it a client
    /// with [`with_mode`](Self::with_mode).
    pub fn listen_on(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Adds an address at which other nodes reach this one and on which it does not listen itself,
    /// such as a forwarded port of a router.
    pub fn with_external_address(mut self, address: Multiaddr) -> Self {
        self.external.push(address);
        self
    }

    /// Sets whether the node serves others. By default a node that listens or has an external
    /// address is a server. Any other node is a client, which reads and writes but stores nothing
    /// for others.
    pub fn with_mode(mut self, mode: kad::Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Adds a peer through which the node finds others; the address ends in `/p2p/<peer id>`.
    pub fn bootstrap(mut self, address: Multiaddr) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// Adds a [smart service](smart_record_services). Its events are not available.
    pub fn with_service(mut self, service: ServiceBuilder) -> Self {
        self.service = Some(service);
        self
    }

    /// Starts the node and returns once it listens. For `0.0.0.0` or `::` it listens on all
    /// addresses of the machine.
    ///
    /// # Errors
    /// [`HostError`] if an address cannot be used, and [`HostError::NoRuntime`] outside of a tokio
    /// runtime.
    ///
    /// # Panics
    /// In a tokio runtime without I/O or timers: build it with `enable_all`.
    pub async fn start(self) -> Result<Host, HostError> {
        let runtime = Handle::try_current().map_err(|_| HostError::NoRuntime)?;
        let Self { keypair, records, listen, external, bootstrap, mode, service } = self;
        let peer = keypair.public().to_peer_id();
        let (mut records, client) = records.build();
        // Kademlia would wait until an external address is confirmed, which takes autonat.
        let mode = mode.or_else(|| (!listen.is_empty()).then_some(kad::Mode::Server));
        records.kad_mut().set_mode(mode);
        for address in bootstrap {
            let Some(Protocol::P2p(peer)) = address.iter().last() else {
                return Err(HostError::NoPeer(address));
            };
            records.kad_mut().add_address(&peer, address);
        }
        let agent = concat!("libp2p-smart-record/", env!("CARGO_PKG_VERSION"));
        let agent = identify::Config::new("/ipfs/0.1.0".to_owned(), keypair.public())
            .with_agent_version(agent.to_owned());
        let service = service.map(|service| service.build(&mut records));
        let (dialer, work) = service.map(|service| (service.dialer, service.task)).unzip();
        let identify = identify::Behaviour::new(agent);
        let composed = HostBehaviour { records, identify, dialer: Toggle::from(dialer) };
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_quic()
            .with_behaviour(|_| composed)
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
            .build();
        let mut host = HostTask::new(swarm);
        external.into_iter().for_each(|address| host.swarm.add_external_address(address));
        for address in listen {
            host.listen(address).await?;
        }
        let (requests, inbox) = mpsc::channel(1);
        tracing::info!(%peer, addresses = ?host.swarm.listeners().collect::<Vec<_>>(), "listens");
        let task = runtime.spawn(host.run(inbox));
        if let Some(work) = work {
            // It ends with the swarm.
            runtime.spawn(work);
        }
        Ok(Host { client, peer, requests, task })
    }
}

libp2p_smart_record::impl_debug! { HostBuilder: |builder| listen: builder.listen }
