//! Builder of a behaviour.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p_identity::Keypair;
use libp2p_kad as kad;
use libp2p_swarm::StreamProtocol;

use super::{
    AsyncValidator, Behaviour, BehaviourConfig, BehaviourCounters, Executor, Validation,
    admitting::Admission,
    alarm::Alarm,
    budget::Budget,
    env::Env,
    holders::Holders,
    network::Network,
    operations::Operations,
    remotes::Remotes,
    rollback::RollbackMemory,
    subnets::Subnets,
    waiting::{Waiting, packet_bytes},
    worker::{Worker, WorkerSetup},
};
use crate::{
    client::Client,
    meter::{Meter, Observed},
    pulse::Pulse,
    query::Bounds,
    store::{OtherPeer, SmartRecordStore},
};
use smart_record_core::Writer;

/// Builder of a [`Behaviour`].
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_smart_record::{
///     behaviour::{Behaviour, BehaviourConfig, Validation}, store::{SmartRecordStore, StoreConfig},
/// };
/// use libp2p_swarm::StreamProtocol;
///
/// let keypair = Keypair::generate_ed25519();
/// let local = keypair.public().to_peer_id();
/// let store = SmartRecordStore::with_registry(local, libp2p_smart_record::built_in(), StoreConfig::default());
/// let (behaviour, client) = Behaviour::builder(keypair)
///     .with_store(store)?
///     .with_protocol(StreamProtocol::new("/my-app/kad/1.0.0"))
///     .with_config(BehaviourConfig::default().with_validation(Validation::OffTask))
///     .build();
/// # let _ = (behaviour, client);
/// # Ok::<(), libp2p_smart_record::store::OtherPeer>(())
/// ```
#[must_use = "call `build`"]
pub struct Builder {
    keypair: Keypair,
    store: SmartRecordStore,
    protocol: StreamProtocol,
    kad_config: Option<kad::Config>,
    config: BehaviourConfig,
    asks: Option<Arc<dyn AsyncValidator>>,
    executor: Option<Executor>,
    meter: Meter,
}

impl Builder {
    pub(super) fn new(keypair: Keypair) -> Self {
        Self {
            store: SmartRecordStore::new(keypair.public().to_peer_id()),
            keypair,
            protocol: kad::PROTOCOL_NAME,
            kad_config: None,
            config: BehaviourConfig::default(),
            asks: None,
            executor: None,
            meter: Meter::default(),
        }
    }

    /// Sets the store. Defaults to one in memory for smart records under `/sr/…`.
    ///
    /// # Errors
    /// [`OtherPeer`] if the store belongs to a peer other than the keypair's.
    pub fn with_store(mut self, store: SmartRecordStore) -> Result<Self, OtherPeer> {
        OtherPeer::check(store.local_peer(), self.keypair.public().to_peer_id())?;
        self.store = store;
        Ok(self)
    }

    /// Sets the protocol of the DHT. Defaults to that of the IPFS DHT.
    pub fn with_protocol(mut self, protocol: StreamProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the configuration of Kademlia instead of [`SmartRecordStore::kad_config`], from which
    /// it should be derived. The behaviour overrides its replication, publication and filtering of
    /// records, and its insertion into buckets
    /// ([`inserts_manually`](BehaviourConfig::inserts_manually)). Its parallelism, timeouts and
    /// packet size apply to Kademlia's own queries and to inbound requests; reads and writes of the
    /// behaviour are requests of its own.
    pub fn with_kad_config(mut self, config: kad::Config) -> Self {
        self.kad_config = Some(config);
        self
    }

    /// Sets the settings of the behaviour.
    pub fn with_config(mut self, config: BehaviourConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets an async validator for records of other peers, and moves validation off the task.
    pub fn with_async_validator(mut self, validator: impl AsyncValidator) -> Self {
        self.asks = Some(Arc::new(validator));
        self.config = self.config.with_validation(Validation::OffTask);
        self
    }

    /// Sets the executor for validation off the task, instead of a thread of its own. Needed for an
    /// async validator that requires a runtime: `|work| { tokio::spawn(work); }`.
    pub fn with_executor(
        mut self,
        executor: impl FnOnce(BoxFuture<'static, ()>) + Send + 'static,
    ) -> Self {
        self.executor = Some(Box::new(executor));
        self
    }

    /// Registers the metrics of the behaviour and its store with `metrics`.
    #[cfg(feature = "metrics")]
    pub fn with_metrics(mut self, metrics: &crate::metrics::Metrics) -> Self {
        self.meter = Meter::of(metrics);
        self
    }

    /// Builds the behaviour and a client.
    pub fn build(self) -> (Behaviour, Client) {
        let Self { keypair, mut store, protocol, kad_config, config, asks, executor, meter } = self;
        let counters = Observed::default();
        meter.show::<BehaviourCounters>(&counters);
        if meter.is_on() {
            store.measure_with(meter.clone());
        }
        let (clock, registry) = (store.clock(), store.registry().clone());
        let store_events = store.subscribe();
        let local = store.local_peer();
        let bounds = Bounds {
            closest: kad::K_VALUE.get(),
            complete_at: config.complete_at(),
            patience: 1,
            chunk_bytes: store.config().chunk_bytes(),
            rounds: config.read_rounds(),
            repair_chunks: config.repair_chunks(),
            record_bytes: store.config().max_record_bytes(),
        };
        let mut kad_config = kad_config.unwrap_or_else(|| store.kad_config(protocol));
        let worker = match config.validation() {
            Validation::Inline => None,
            Validation::OffTask => {
                let setup = WorkerSetup {
                    registry: registry.clone(),
                    signatures: store.signatures(),
                    asks,
                    clock: clock.clone(),
                    config: config.clone(),
                    meter: meter.clone(),
                };
                Some(Worker::start(setup, executor))
            }
        };
        let inserts = match config.inserts_manually() {
            true => kad::BucketInserts::Manual,
            false => kad::BucketInserts::OnConnected,
        };
        kad_config
            .set_kbucket_inserts(inserts)
            .set_replication_interval(None)
            .set_publication_interval(None)
            // In both cases the behaviour learns who sends a record. Kademlia's answer is sent
            // after the record has been handled.
            .set_record_filtering(kad::StoreInserts::FilterBoth);
        let writer = Writer::from(&keypair.public());
        let pulse = Pulse::new(config.poll_timeout());
        let (client, commands) =
            Client::new(writer.clone(), registry.clone(), meter.clone(), pulse.clone());
        let packet_bytes = packet_bytes(&kad_config);
        let kad = kad::Behaviour::with_config(local, store, kad_config);
        // Kademlia requests the first protocol too.
        let protocol = kad.protocol_names().first().cloned().unwrap_or(kad::PROTOCOL_NAME);
        let env = Env {
            net: Network::new(local, protocol),
            holders: Holders::new(),
            kad,
            local,
            writer: writer.clone(),
            bounds,
            clock,
            registry,
            known: RollbackMemory::new(config.max_known_writers()),
            remotes: Remotes::default(),
            subnets: Subnets::new(&config),
            budget: Budget::new(config.work_per_second()),
            events: VecDeque::new(),
            counters,
            meter,
            config,
        };
        let behaviour = Behaviour {
            writer,
            client: client.downgrade(),
            operations: Operations::new(&env, keypair, Admission::new(worker)),
            commands: Some(commands),
            store_events,
            closing: VecDeque::new(),
            leaving: HashSet::new(),
            waiting: Waiting::new(env.budget.most_waiting(), packet_bytes),
            look_at: Duration::ZERO,
            alarm: Alarm::new(env.now()),
            pulse,
            env,
        };
        (behaviour, client)
    }
}

smart_record_core::impl_debug! { Builder: |builder| config: builder.config }
