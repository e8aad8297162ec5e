//! What each implementation can do with ours, one at a time.

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    RecordKey,
    ipns::{IpnsName, IpnsRecord},
};
use smart_record_testing::{ipns, keys, process::Running};

use crate::{
    foreign::{Foreign, Implementation, Outcome, Role, cid, name_key, peer_of},
    ours::{self, Prober},
    records::{Bad, content, fresh_key, numbered, public_key, smart},
};

/// Something that a node can do; a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Serves(Service),
    Uses(Service),
    /// In a network of all implementations.
    Mixed(Mixed),
}

/// What a server does for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Connect,
    Smart,
    PublicKeys,
    Names,
    Refuses(Bad),
    RefusesOlder,
    RefusesDamaged,
    Providers,
}

/// What is checked in a network of all implementations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixed {
    /// Ours read what it puts, and it reads what the others put.
    Exchanges,
    /// It holds what five writers have written under one key, although it merges nothing.
    HoldsAll,
}

impl Capability {
    pub const ALL: [Self; 21] = [
        Self::Serves(Service::Connect),
        Self::Serves(Service::Smart),
        Self::Serves(Service::PublicKeys),
        Self::Serves(Service::Names),
        Self::Serves(Service::Refuses(Bad::Forged)),
        Self::Serves(Service::Refuses(Bad::Expired)),
        Self::Serves(Service::Refuses(Bad::Oversized)),
        Self::Serves(Service::RefusesOlder),
        Self::Serves(Service::Providers),
        Self::Uses(Service::Connect),
        Self::Uses(Service::Smart),
        Self::Uses(Service::PublicKeys),
        Self::Uses(Service::Names),
        Self::Uses(Service::Refuses(Bad::Forged)),
        Self::Uses(Service::Refuses(Bad::Expired)),
        Self::Uses(Service::Refuses(Bad::Oversized)),
        Self::Uses(Service::RefusesOlder),
        Self::Uses(Service::RefusesDamaged),
        Self::Uses(Service::Providers),
        Self::Mixed(Mixed::Exchanges),
        Self::Mixed(Mixed::HoldsAll),
    ];

    /// The row's text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Serves(Service::Connect) => "server: answers our client",
            Self::Serves(Service::Smart) => "server: keeps and gives `/sr`",
            Self::Serves(Service::PublicKeys) => "server: keeps and gives `/pk`",
            Self::Serves(Service::Names) => "server: keeps and gives `/ipns`",
            Self::Serves(Service::Refuses(Bad::Forged)) => {
                "server: refuses a forged `/ipns`, not a good one"
            }
            Self::Serves(Service::Refuses(Bad::Expired)) => {
                "server: refuses an expired `/ipns`, not a good one"
            }
            Self::Serves(Service::Refuses(Bad::Oversized)) => {
                "server: refuses an oversized `/ipns`, not a good one"
            }
            Self::Serves(Service::RefusesOlder) => "server: keeps the newer of two `/ipns`",
            Self::Serves(Service::RefusesDamaged) => "server: refuses a damaged `/sr`",
            Self::Serves(Service::Providers) => "server: keeps and gives provider records",
            Self::Uses(Service::Connect) => "client: has our server in its routing table",
            Self::Uses(Service::Smart) => "client: puts and gets `/sr`",
            Self::Uses(Service::PublicKeys) => "client: puts and gets `/pk`",
            Self::Uses(Service::Names) => "client: puts and gets `/ipns`",
            Self::Uses(Service::Refuses(Bad::Forged)) => {
                "client: sends a forged `/ipns`, which ours refuse"
            }
            Self::Uses(Service::Refuses(Bad::Expired)) => {
                "client: sends an expired `/ipns`, which ours refuse"
            }
            Self::Uses(Service::Refuses(Bad::Oversized)) => {
                "client: sends an oversized `/ipns`, which ours refuse"
            }
            Self::Uses(Service::RefusesOlder) => {
                "client: sends an older `/ipns`, which ours refuse"
            }
            Self::Uses(Service::RefusesDamaged) => {
                "client: sends a damaged `/sr`, which ours refuse"
            }
            Self::Uses(Service::Providers) => "client: provides, and finds providers",
            Self::Mixed(Mixed::Exchanges) => {
                "all in one network: gets what the others put, and ours get what it puts"
            }
            Self::Mixed(Mixed::HoldsAll) => {
                "all in one network: has all five writers of a `/sr` key"
            }
        }
    }
}

const KEYS_ARE_TEXT: &str = "Its keys are UTF-8, and those of `/pk` and `/ipns` are not.";
const IS_STORED: &str = "Its store checks nothing and keeps the last record that it is sent.";

/// Why an implementation cannot do something.
pub fn cannot(implementation: Implementation, capability: Capability) -> Option<&'static str> {
    use Capability::{Mixed as InAll, Serves, Uses};
    use Implementation::{JavaScript, Kubo, Python, Rust};
    use Service::{Names, PublicKeys, Refuses, RefusesDamaged, RefusesOlder, Smart};
    Some(match (implementation, capability) {
        (Kubo, Serves(Smart) | InAll(Mixed::HoldsAll)) => {
            "It keeps no other records than `/pk` and `/ipns`."
        }
        (Kubo, Uses(Smart | PublicKeys | RefusesDamaged)) => {
            "Its commands take no other keys than `/ipns`."
        }
        (Kubo, Uses(Refuses(_) | RefusesOlder)) => {
            "It checks what it sends, so it sends nothing that is invalid or older."
        }
        (JavaScript, Serves(RefusesOlder)) => {
            "It keeps the last valid record that it is sent, and compares when it reads."
        }
        (
            Python,
            Serves(PublicKeys | Names | Refuses(_) | RefusesOlder)
            | Uses(PublicKeys | Names | Refuses(_) | RefusesOlder),
        ) => KEYS_ARE_TEXT,
        (Rust, Serves(Refuses(_) | RefusesOlder)) => IS_STORED,
        _ => return None,
    })
}

/// One implementation beside our server, as a server and as a client.
pub struct Bench {
    implementation: Implementation,
    server: Foreign,
    client: Foreign,
    unchecked: Foreign,
    /// A plain node, which keeps whatever it is sent, beside our server.
    keeps_all: Foreign,
    our_address: String,
    _our_server: Running,
    connected: [Outcome; 2],
}

impl Bench {
    pub async fn start(implementation: Implementation) -> Self {
        let (our_server, our_address) = ours::server(&[]);
        let client = Foreign::start(implementation, Role::Client).await;
        let unchecked = Foreign::start(implementation, Role::Unchecked).await;
        let keeps_all = Foreign::start(Implementation::Rust, Role::Server).await;
        let introduced = match unchecked.connect(&our_address).await {
            Ok(()) => unchecked.connect(&keeps_all.address()).await,
            Err(error) => Err(error),
        };
        Self {
            implementation,
            server: Foreign::start(implementation, Role::Server).await,
            connected: [client.connect(&our_address).await, introduced],
            client,
            unchecked,
            keeps_all,
            our_address,
            _our_server: our_server,
        }
    }

    /// Tries something; an error says why it did not work.
    pub async fn check(&self, capability: Capability) -> Outcome {
        match capability {
            Capability::Serves(service) => self.serves(service).await,
            Capability::Uses(service) => self.uses(service).await,
            Capability::Mixed(_) => Err("is checked in another network".to_owned()),
        }
    }

    async fn serves(&self, service: Service) -> Outcome {
        let (address, peer) = (self.server.address(), self.server.peer());
        let prober = || Prober::at(&address);
        // Written by one client of ours, read by another.
        let round = async |key: RecordKey, value: Vec<u8>| {
            ours::put(&ours::client(&address).await, peer, &key, value.clone()).await?;
            ours::expect(&ours::client(&address).await, &key, &value).await
        };
        match service {
            Service::Connect => {
                let client = ours::client(&address).await;
                let reading = client.client().get(fresh_key()).await;
                let reading = reading.map_err(|error| error.to_string())?;
                reading.empty.contains(&peer).then_some(()).ok_or(format!("{reading:?}"))
            }
            Service::Smart => {
                let key = fresh_key();
                round(key.clone(), smart(&key).encode()).await
            }
            Service::PublicKeys => {
                let (key, value) = public_key();
                round(key, value).await
            }
            Service::Names => {
                let owner = Keypair::generate_ed25519();
                round(name_key(&owner), numbered(&owner, 7)).await
            }
            Service::Refuses(bad) => {
                let prober = prober().await;
                // A good one is kept.
                let owner = Keypair::generate_ed25519();
                prober.send(&name_key(&owner), &numbered(&owner, 7)).await;
                prober.kept(&name_key(&owner)).await.ok_or("a good one is not kept")?;
                let (key, value) = bad.record();
                prober.send(&key, &value).await;
                refused(prober.kept(&key).await)
            }
            Service::RefusesOlder => {
                let (prober, owner) = (prober().await, Keypair::generate_ed25519());
                let newer = numbered(&owner, 8);
                for value in [&newer, &numbered(&owner, 7)] {
                    prober.send(&name_key(&owner), value).await;
                }
                is(prober.kept(&name_key(&owner)).await, &newer)
            }
            Service::RefusesDamaged => Err("nobody but ours knows `/sr`".to_owned()),
            Service::Providers => prober().await.provide(fresh_key().as_ref()).await,
        }
    }

    async fn uses(&self, service: Service) -> Outcome {
        let our_peer = peer_of(&self.our_address).0;
        let [client, unchecked] = &self.connected;
        client.clone()?;
        let ours = || ours::client(&self.our_address);
        // Written by it and read by ours; written by ours and read by it.
        let rounds = async |(key, value): (RecordKey, Vec<u8>),
                            (next, other): (RecordKey, Vec<u8>)| {
            self.client.put(&key, &value).await?;
            ours::expect(&ours().await, &key, &value).await?;
            ours::put(&ours().await, our_peer, &next, other.clone()).await?;
            is(Some(content(&next, self.client.get(&next).await?)), &other)
        };
        let named = || {
            let owner = Keypair::generate_ed25519();
            (name_key(&owner), numbered(&owner, 7))
        };
        let prober = Prober::at(&self.our_address).await;
        let elsewhere = Prober::at(&self.keeps_all.address()).await;
        // Written by the unchecked one, and sent.
        let sends = async |key: &RecordKey, value: &[u8]| {
            unchecked.clone()?;
            self.unchecked.put(key, value).await?;
            let sent = is(elsewhere.kept(key).await, value);
            sent.map_err(|error| format!("it does not send it: {error}"))
        };
        match service {
            Service::Connect => Ok(()),
            Service::Smart => {
                let keys = [fresh_key(), fresh_key()];
                let [one, other] = keys.map(|key| (key.clone(), smart(&key).encode()));
                rounds(one, other).await
            }
            Service::PublicKeys => rounds(public_key(), public_key()).await,
            Service::Names => rounds(named(), named()).await,
            Service::Refuses(bad) => {
                // A good one is kept.
                let (key, value) = named();
                sends(&key, &value).await?;
                is(prober.kept(&key).await, &value)?;
                let (key, value) = bad.record();
                sends(&key, &value).await?;
                refused(prober.kept(&key).await)
            }
            Service::RefusesOlder => {
                let owner = Keypair::generate_ed25519();
                let (key, newer) = (name_key(&owner), numbered(&owner, 8));
                sends(&key, &newer).await?;
                sends(&key, &numbered(&owner, 7)).await?;
                is(prober.kept(&key).await, &newer)
            }
            Service::RefusesDamaged => {
                let key = fresh_key();
                let mut value = smart(&key).encode();
                *value.last_mut().unwrap() ^= 1;
                sends(&key, &value).await?;
                refused(prober.kept(&key).await)
            }
            Service::Providers => {
                let content = fresh_key();
                self.client.provide(content.as_ref()).await?;
                prober.finds_provider(content.as_ref(), self.client.peer()).await?;
                let content = fresh_key();
                prober.provide(content.as_ref()).await?;
                let found = self.client.providers(content.as_ref()).await?;
                let is_found = found.contains(&prober.id().to_string());
                is_found.then_some(()).ok_or(format!("finds {found:?}"))
            }
        }
    }

    /// What else kubo does with names: its own commands, through our server alone.
    pub async fn commands_of_kubo(&self) -> Outcome {
        let Foreign::Kubo(kubo) = &self.client else {
            return Ok(());
        };
        debug_assert_eq!(self.implementation, Implementation::Kubo);
        let content = fresh_key().to_string().into_bytes();
        kubo.run(&["block", "put"], &content)?;
        let path = format!("/ipfs/{}", cid(&content));
        for key_type in ["ed25519", "rsa", "secp256k1"] {
            let name = kubo.text(&["key", "gen", "--type", key_type, key_type], &[])?;
            kubo.run(&["name", "publish", "--key", key_type, &path], &[])?;
            let name: IpnsName = name.parse().map_err(|error| format!("{name}: {error}"))?;
            let reading = ours::client(&self.our_address).await.client().get(name.key()).await;
            let reading = reading.map_err(|error| error.to_string())?;
            let value = reading.snapshot.value().ok_or("what kubo publishes is not found")?;
            let record =
                IpnsRecord::decode(&name, value.clone()).map_err(|error| error.to_string())?;
            is(Some(record.value().to_vec()), path.as_bytes())?;
        }
        for owner in keys::all_types() {
            let name = IpnsName::from(&owner.public()).to_string();
            let value = numbered(&owner, 7);
            let our_peer = peer_of(&self.our_address).0;
            let ours = ours::client(&self.our_address).await;
            ours::put(&ours, our_peer, &name_key(&owner), value.clone()).await?;
            let resolve = ["name", "resolve", "--recursive=false", "--nocache", &name];
            let found = kubo.run(&resolve, &[])?;
            is(Some(found.trim_ascii().to_vec()), ipns::VALUE)?;
            let inspect = kubo.text(&["name", "inspect", "--verify", &name], &value)?;
            if !inspect.contains("true") {
                return Err(inspect);
            }
        }
        Ok(())
    }
}

fn refused(kept: Option<Vec<u8>>) -> Outcome {
    kept.map_or(Ok(()), |value| Err(format!("it is kept: {} bytes", value.len())))
}

fn is(found: Option<Vec<u8>>, expected: &[u8]) -> Outcome {
    match found {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("expected {} bytes, found {found:?}", expected.len())),
    }
}
