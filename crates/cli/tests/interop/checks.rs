//! What each implementation can do with ours, one at a time.

use libp2p_smart_record::{
    RecordKey,
    ipns::{IpnsName, IpnsRecord},
};
use smart_record_testing::{ipns, keys, process::Running};

use crate::{
    foreign::{Foreign, Implementation, Outcome, Role, cid, name_key, peer_of},
    ours::{self, Prober},
    records::{Bad, Kind, content, fresh_key, numbered},
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
    Refuses(Kind, Bad),
    RefusesOlder(Kind),
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
    pub const ALL: [Self; 26] = [
        Self::Serves(Service::Connect),
        Self::Serves(Service::Smart),
        Self::Serves(Service::PublicKeys),
        Self::Serves(Service::Names),
        Self::Serves(Service::Refuses(Kind::PublicKey, Bad::Forged)),
        Self::Serves(Service::Refuses(Kind::Name, Bad::Forged)),
        Self::Serves(Service::Refuses(Kind::Name, Bad::Expired)),
        Self::Serves(Service::Refuses(Kind::Name, Bad::Oversized)),
        Self::Serves(Service::RefusesOlder(Kind::Name)),
        Self::Serves(Service::Providers),
        Self::Uses(Service::Connect),
        Self::Uses(Service::Smart),
        Self::Uses(Service::PublicKeys),
        Self::Uses(Service::Names),
        Self::Uses(Service::Refuses(Kind::PublicKey, Bad::Forged)),
        Self::Uses(Service::Refuses(Kind::Name, Bad::Forged)),
        Self::Uses(Service::Refuses(Kind::Name, Bad::Expired)),
        Self::Uses(Service::Refuses(Kind::Name, Bad::Oversized)),
        Self::Uses(Service::RefusesOlder(Kind::Name)),
        Self::Uses(Service::Refuses(Kind::Smart, Bad::Forged)),
        Self::Uses(Service::Refuses(Kind::Smart, Bad::Expired)),
        Self::Uses(Service::Refuses(Kind::Smart, Bad::Oversized)),
        Self::Uses(Service::RefusesOlder(Kind::Smart)),
        Self::Uses(Service::Providers),
        Self::Mixed(Mixed::Exchanges),
        Self::Mixed(Mixed::HoldsAll),
    ];

    /// The row's text.
    pub fn text(self) -> String {
        let text = match self {
            Self::Serves(Service::Refuses(kind, bad)) => {
                return format!("server: refuses {}, not a good one", bad.of(kind));
            }
            Self::Serves(Service::RefusesOlder(kind)) => {
                return format!("server: keeps the newer of two {}", kind.namespace());
            }
            Self::Uses(Service::Refuses(kind, bad)) => {
                return format!("client: sends {}, which ours refuse", bad.of(kind));
            }
            Self::Uses(Service::RefusesOlder(kind)) => {
                return format!("client: sends an older {}, which ours refuse", kind.namespace());
            }
            Self::Serves(Service::Connect) => "server: answers our client",
            Self::Serves(Service::Smart) => "server: keeps and gives `/sr`",
            Self::Serves(Service::PublicKeys) => "server: keeps and gives `/pk`",
            Self::Serves(Service::Names) => "server: keeps and gives `/ipns`",
            Self::Serves(Service::Providers) => "server: keeps and gives provider records",
            Self::Uses(Service::Connect) => "client: has our server in its routing table",
            Self::Uses(Service::Smart) => "client: puts and gets `/sr`",
            Self::Uses(Service::PublicKeys) => "client: puts and gets `/pk`",
            Self::Uses(Service::Names) => "client: puts and gets `/ipns`",
            Self::Uses(Service::Providers) => "client: provides, and finds providers",
            Self::Mixed(Mixed::Exchanges) => {
                "all in one network: gets what the others put, and ours get what it puts"
            }
            Self::Mixed(Mixed::HoldsAll) => {
                "all in one network: has all five writers of a `/sr` key"
            }
        };
        text.to_owned()
    }
}

const KEYS_ARE_TEXT: &str = "Its keys are UTF-8, and those of `/pk` and `/ipns` are not.";
const IS_STORED: &str = "Its store checks nothing and keeps the last record that it is sent.";

/// Why an implementation cannot do something.
pub fn cannot(implementation: Implementation, capability: Capability) -> Option<&'static str> {
    use Capability::{Mixed as InAll, Serves, Uses};
    use Implementation::{JavaScript, Kubo, Python, Rust};
    use Service::{Names, PublicKeys, Refuses, RefusesOlder, Smart};
    Some(match (implementation, capability) {
        (Kubo, Serves(Smart) | InAll(Mixed::HoldsAll)) => {
            "It keeps no other records than `/pk` and `/ipns`."
        }
        (
            Kubo,
            Uses(
                Smart
                | PublicKeys
                | Refuses(Kind::Smart | Kind::PublicKey, _)
                | RefusesOlder(Kind::Smart),
            ),
        ) => "Its commands take no other keys than `/ipns`.",
        (Kubo, Uses(Refuses(..) | RefusesOlder(_))) => {
            "It checks what it sends, so it sends nothing that is invalid or older."
        }
        (JavaScript, Serves(RefusesOlder(_))) => {
            "It keeps the last valid record that it is sent, and compares when it reads."
        }
        (
            Python,
            Serves(PublicKeys | Names | Refuses(..) | RefusesOlder(_))
            | Uses(
                PublicKeys
                | Names
                | Refuses(Kind::PublicKey | Kind::Name, _)
                | RefusesOlder(Kind::PublicKey | Kind::Name),
            ),
        ) => KEYS_ARE_TEXT,
        (Rust, Serves(Refuses(..) | RefusesOlder(_))) => IS_STORED,
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
        let round = async |(key, value): (RecordKey, Vec<u8>)| {
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
            Service::Smart => round(Kind::Smart.good()).await,
            Service::PublicKeys => round(Kind::PublicKey.good()).await,
            Service::Names => round(Kind::Name.good()).await,
            Service::Refuses(kind, bad) => {
                let prober = prober().await;
                // A good one is kept.
                let (key, value) = kind.good();
                prober.send(&key, &value).await;
                prober.kept(&key).await.ok_or("a good one is not kept")?;
                let (key, value) = bad.record(kind);
                prober.send(&key, &value).await;
                refused(prober.kept(&key).await)
            }
            Service::RefusesOlder(kind) => {
                let (prober, (key, [newer, older])) = (prober().await, kind.newer_and_older());
                for value in [&newer, &older] {
                    prober.send(&key, value).await;
                }
                is(prober.kept(&key).await, &newer)
            }
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
        let prober = Prober::at(&self.our_address).await;
        let elsewhere = Prober::at(&self.keeps_all.address()).await;
        let kept = async |key: &RecordKey| prober.kept(key).await.map(|value| content(key, value));
        // Written by the unchecked one, and sent.
        let sends = async |key: &RecordKey, value: &[u8]| {
            unchecked.clone()?;
            self.unchecked.put(key, value).await?;
            let sent = is(elsewhere.kept(key).await, value);
            sent.map_err(|error| format!("it does not send it: {error}"))
        };
        match service {
            Service::Connect => Ok(()),
            Service::Smart => rounds(Kind::Smart.good(), Kind::Smart.good()).await,
            Service::PublicKeys => rounds(Kind::PublicKey.good(), Kind::PublicKey.good()).await,
            Service::Names => rounds(Kind::Name.good(), Kind::Name.good()).await,
            Service::Refuses(kind, bad) => {
                // A good one is kept.
                let (key, value) = kind.good();
                sends(&key, &value).await?;
                is(kept(&key).await, &value)?;
                let (key, value) = bad.record(kind);
                sends(&key, &value).await?;
                refused(kept(&key).await)
            }
            Service::RefusesOlder(kind) => {
                let (key, [newer, older]) = kind.newer_and_older();
                sends(&key, &newer).await?;
                sends(&key, &older).await?;
                is(kept(&key).await, &newer)
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
            for format in ["libp2p-protobuf-cleartext", "pem-pkcs8-cleartext"] {
                let file = tempfile::NamedTempFile::new().unwrap();
                let file = file.path().to_str().unwrap();
                kubo.run(&["key", "export", "--format", format, "--output", file, key_type], &[])?;
                let peer = ours::peer_of_key(file)?;
                is(Some(peer.into_bytes()), name.peer_id().to_string().as_bytes())?;
            }
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
