//! One network of all implementations and two servers of ours.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use libp2p::identity::Keypair;
use libp2p_smart_record::SmartRecord;
use smart_record_testing::process::Running;

use crate::{
    checks::{Capability, Mixed, Service, cannot},
    foreign::{Foreign, Implementation, Outcome, Role, name_key},
    ours::{self, Prober},
    records::{content, fresh_key, numbered, smart},
};

/// Longest wait for all to have everything, far above what it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The network.
pub struct Network {
    nodes: Vec<(Implementation, Foreign)>,
    addresses: [String; 2],
    _ours: [Running; 2],
}

impl Network {
    /// Starts it; each node knows our two servers.
    pub async fn start() -> Self {
        let (first, first_address) = ours::server(&[]);
        let (second, second_address) = ours::server(&[&first_address]);
        let addresses = [first_address, second_address];
        let mut nodes = Vec::new();
        for implementation in Implementation::ALL {
            let node = Foreign::start(implementation, Role::Server).await;
            for address in &addresses {
                node.connect(address).await.unwrap();
            }
            nodes.push((implementation, node));
        }
        Self { nodes, addresses, _ours: [first, second] }
    }

    /// The outcome of each implementation.
    pub async fn check(&self, mixed: Mixed) -> BTreeMap<Implementation, Outcome> {
        match mixed {
            Mixed::Exchanges => self.exchange().await,
            Mixed::HoldsAll => self.hold_all().await,
        }
    }

    /// Each puts a name, or, where it cannot, a smart record.
    async fn exchange(&self) -> BTreeMap<Implementation, Outcome> {
        let can =
            |implementation, service| cannot(implementation, Capability::Uses(service)).is_none();
        let mut put = Vec::new();
        for (implementation, node) in &self.nodes {
            let (service, key, value) = if can(*implementation, Service::Names) {
                let owner = Keypair::generate_ed25519();
                (Service::Names, name_key(&owner), numbered(&owner, 7))
            } else {
                let key = fresh_key();
                (Service::Smart, key.clone(), smart(&key).encode())
            };
            node.put(&key, &value).await.unwrap();
            put.push((*implementation, service, key, value));
        }
        let mut outcomes = BTreeMap::new();
        for (implementation, node) in &self.nodes {
            let exchanged = async {
                for (writer, service, key, value) in &put {
                    if writer == implementation {
                        for address in &self.addresses {
                            ours::expect(&ours::client(address).await, key, value).await?;
                        }
                    } else if can(*implementation, *service) {
                        let found = node.get(key).await.map(|value| content(key, value));
                        if found.as_ref() != Ok(value) {
                            return Err(format!("of {writer:?} it gets {found:?}"));
                        }
                    }
                }
                Ok(())
            };
            outcomes.insert(*implementation, exchanged.await);
        }
        outcomes
    }

    /// Five writers write under one key, each through another node. A node that merges nothing
    /// keeps the last PUT, and whoever reads sends it all that is known.
    async fn hold_all(&self) -> BTreeMap<Implementation, Outcome> {
        let cannot =
            |implementation| cannot(implementation, Capability::Mixed(Mixed::HoldsAll)).is_some();
        let key = fresh_key();
        let mut all = SmartRecord::new(key.clone());
        let client = ours::client(&self.addresses[0]).await;
        for (implementation, node) in &self.nodes {
            let record = smart(&key);
            if cannot(*implementation) {
                // Ours writes in its place.
                client.client().put(key.clone(), record.encode()).await.unwrap();
            } else {
                node.put(&key, &record.encode()).await.unwrap();
            }
            all.join(record).unwrap();
        }
        let expected = all.encode();
        let outcomes = self.nodes.iter().map(async |(implementation, node)| {
            let prober = Prober::at(&node.address()).await;
            let reader = ours::client(&self.addresses[1]).await;
            let has_all = async {
                loop {
                    ours::expect(&reader, &key, &expected).await?;
                    let kept = prober.kept(&key).await;
                    if kept.as_ref() == Some(&expected) {
                        return Ok(());
                    }
                    if cannot(*implementation) {
                        return Err("it has nothing".to_owned());
                    }
                }
            };
            let in_time = tokio::time::timeout(PATIENCE, has_all).await;
            (*implementation, in_time.unwrap_or(Err("it has not all of them".to_owned())))
        });
        join_all(outcomes).await.into_iter().collect()
    }
}
