//! The builder of a node.

use std::{net::SocketAddr, time::Duration};

use futures::channel::mpsc;
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, autonat, dcutr, identify, identity::Keypair, kad,
    multiaddr::Protocol, noise, ping, pnet::PreSharedKey, relay, swarm::behaviour::toggle::Toggle,
    yamux,
};
use libp2p_swarm::StreamProtocol;
use tokio::runtime::Handle;

use super::{
    ConnectionLimits, Host, HostError,
    counters::SharedCounters,
    limits::{ADDRESSES_AT_ONCE, Limiter},
    parts::HostBehaviour,
    task::HostTask,
    transport,
};
use libp2p_smart_record::{
    behaviour::{Behaviour, BehaviourConfig, Builder, Validation},
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
    limits: ConnectionLimits,
    network: Option<PreSharedKey>,
    name_servers: Vec<SocketAddr>,
    autonat: Option<autonat::Config>,
    relays: Vec<Multiaddr>,
    relay: Option<relay::Config>,
}

impl HostBuilder {
    /// A builder of a node with this key.
    pub fn with_keypair(keypair: Keypair) -> Self {
        let config = BehaviourConfig::default().with_validation(Validation::OffTask);
        Self {
            records: Behaviour::builder(keypair.clone()).with_config(config),
            keypair,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mode: None,
            service: None,
            limits: ConnectionLimits::default(),
            network: None,
            name_servers: Vec::new(),
            autonat: None,
            relays: Vec::new(),
            relay: None,
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

    /// Sets the settings of the behaviour. Defaults to the default settings with
    /// [`Validation::OffTask`], so that records of strangers do not hold the node's task.
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
    /// reach it, because it is behind a NAT or a firewall, that costs them time; have it find out
    /// with [`with_autonat`](Self::with_autonat), or make it a client with
    /// [`with_mode`](Self::with_mode).
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

    /// Adds a peer through which the node finds others; the address ends in `/p2p/<peer id>`. It
    /// may have a name: `/dns`, `/dns4`, `/dns6` or `/dnsaddr`.
    ///
    /// The peer is dialled at once, and again until it is connected, after one second, two, four
    /// and so on up to a minute, each a quarter more or less; and also later, whenever nobody can
    /// be reached. A warning in the log says so.
    pub fn bootstrap(mut self, address: Multiaddr) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// Sets the limits of connections. They default to what the process's limit of open files
    /// allows.
    pub fn with_limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts the node into the private network of this key: it connects with nodes that have the
    /// key, and over TCP only, for QUIC has no such keys. The key authorises nobody to write; it
    /// keeps strangers out.
    pub fn with_private_network(mut self, key: PreSharedKey) -> Self {
        self.network = Some(key);
        self
    }

    /// Sets the name servers that resolve names in addresses. Defaults to those of the machine.
    pub fn with_name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers = servers.into_iter().collect();
        self
    }

    /// Has other nodes check whether they can reach this one (AutoNAT), and does the same for them.
    /// By default it does neither.
    ///
    /// A node that listens is a server until several checks have failed. Then it is a client, until
    /// one succeeds. [`with_mode`](Self::with_mode) fixes the mode. By the default settings
    /// only nodes at global addresses check each other, so nothing changes in a local network.
    pub fn with_autonat(mut self, config: autonat::Config) -> Self {
        self.autonat = Some(config);
        self
    }

    /// Adds a relay through which others reach this node; the address ends in `/p2p/<peer id>`. As
    /// soon as the relay has agreed, [`Host::addresses`] has an address through it. Nodes that
    /// connect there then try to connect directly, by hole punching. A relay that is lost is tried
    /// again as a [`bootstrap`](Self::bootstrap) peer is.
    ///
    /// A node that is reached through relays alone should be a client: a relay passes on little.
    pub fn with_relay(mut self, address: Multiaddr) -> Self {
        self.relays.push(address);
        self
    }

    /// Relays connections of others, within the limits of `config`. The node's addresses should be
    /// reachable for everybody. By default it relays nothing.
    pub fn as_relay(mut self, config: relay::Config) -> Self {
        self.relay = Some(config);
        self
    }

    /// Adds a [smart service](smart_record_services). Its events are not available.
    pub fn with_service(mut self, service: ServiceBuilder) -> Self {
        self.service = Some(service);
        self
    }

    /// Starts the node and returns once it listens. For `0.0.0.0` or `::` it listens on all
    /// addresses of the machine. If the machine has none of the kind, that takes a second and a
    /// warning in the log; the node listens as soon as there is one.
    ///
    /// # Errors
    /// [`HostError`] if an address cannot be used, and [`HostError::NoRuntime`] outside of a tokio
    /// runtime.
    ///
    /// # Panics
    /// In a tokio runtime without I/O or timers: build it with `enable_all`.
    pub async fn start(self) -> Result<Host, HostError> {
        let runtime = Handle::try_current().map_err(|_| HostError::NoRuntime)?;
        let Self { keypair, records, listen, external, mode, service, .. } = self;
        let peer = keypair.public().to_peer_id();
        let (mut records, client) = records.build();
        let counters = SharedCounters::default();
        #[cfg(feature = "metrics")]
        if let Some(metrics) = records.metrics() {
            counters.show_in(metrics);
        }
        let serves = !listen.is_empty() || !external.is_empty();
        // Kademlia would wait until an external address is confirmed, which takes autonat.
        let default = if serves { kad::Mode::Server } else { kad::Mode::Client };
        records.kad_mut().set_mode(Some(mode.unwrap_or(default)));
        let agent = concat!("libp2p-smart-record/", env!("CARGO_PKG_VERSION"));
        let agent = identify::Config::new("/ipfs/0.1.0".to_owned(), keypair.public())
            .with_agent_version(agent.to_owned())
            // It would add the addresses that it remembers to those of each dial.
            .with_cache_size(0);
        let service = service.map(|service| service.build(&mut records));
        let (dialer, work) = service.map(|service| (service.dialer, service.task)).unzip();
        let autonat = self.autonat.map(|config| autonat::Behaviour::new(peer, config));
        let relay = self.relay.map(|config| relay::Behaviour::new(peer, config));
        let behaviour = |relayed| HostBehaviour {
            limits: Limiter::new(self.limits, counters.clone()),
            records,
            identify: identify::Behaviour::new(agent),
            ping: ping::Behaviour::default(),
            dialer: Toggle::from(dialer),
            autonat: Toggle::from(autonat),
            relay: Toggle::from(relay),
            relayed,
            hole_punching: dcutr::Behaviour::new(peer),
        };
        let (names, how) = transport::names(&self.name_servers);
        let swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_other_transport(|keypair| {
                let handshakes = self.limits.crowd_of_handshakes();
                transport::encrypted(keypair, self.network, handshakes, counters.clone())
            })
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_dns_config(names, how)
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_behaviour(|_, relayed| behaviour(relayed))
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_swarm_config(|config| {
                config
                    .with_idle_connection_timeout(IDLE)
                    .with_dial_concurrency_factor(ADDRESSES_AT_ONCE)
            })
            .build();
        let mut host = HostTask::new(swarm, serves && mode.is_none());
        for address in self.bootstrap {
            host.join_through(peer_of(&address)?, address);
        }
        for address in self.relays {
            peer_of(&address)?;
            host.be_reached_through(address);
        }
        external.into_iter().for_each(|address| host.swarm.add_external_address(address));
        for address in listen {
            host.listen(address).await?;
        }
        let (requests, inbox) = mpsc::channel(1);
        tracing::info!(%peer, addresses = ?host.addresses(), "listens");
        let task = runtime.spawn(host.run(inbox));
        if let Some(work) = work {
            // It ends with the swarm.
            runtime.spawn(work);
        }
        Ok(Host { client, peer, requests, counters, task })
    }
}

/// The peer at the end of an address.
fn peer_of(address: &Multiaddr) -> Result<PeerId, HostError> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => Err(HostError::NoPeer(address.clone())),
    }
}

libp2p_smart_record::impl_debug! { HostBuilder: |builder| listen: builder.listen }
