//! Validly signed values of every built-in namespace.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libp2p_identity::Keypair;
use libp2p_smart_record::{
    RecordKey, Writer,
    ipns::{IpnsBuilder, IpnsName},
    iprs::{Ancestry, DatetimeRange, Record, SequenceNumber, TtlSinceReceipt},
    pk::PublicKeyValidator,
    presence::{
        AnnouncementOffer, PresenceEntry, PresenceKey, PresenceLimits, PresenceRecord, Withdrawal,
    },
    signed::UnsignedRecord,
};

use crate::{
    author,
    forge::{NOW, at, field},
    updates::Said,
};

/// The key and value of each valid record made by another implementation.
pub static VECTORS: LazyLock<Vec<(RecordKey, Vec<u8>)>> = LazyLock::new(|| {
    let files = [
        (include_str!("../../tests/vectors/ipns/npm-ipns.json"), "record"),
        (include_str!("../../tests/vectors/py-libp2p/public-keys.json"), "value"),
        (include_str!("../../tests/vectors/py-libp2p/signed-records.json"), "envelope"),
    ];
    let records = files.into_iter().flat_map(|(file, value)| {
        let records: Vec<serde_json::Value> = serde_json::from_str(file).expect("JSON");
        records.into_iter().map(move |record| (unhex(&record["key"]), unhex(&record[value])))
    });
    records.map(|(key, value)| (RecordKey::new(key), value)).collect()
});

fn unhex(text: &serde_json::Value) -> Vec<u8> {
    let digits = text.as_str().expect("text").as_bytes().chunks(2);
    let byte = |digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    digits.map(|digits| byte(digits).expect("hex")).collect()
}

/// A namespace.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    PublicKey,
    Ipns,
    Iprs,
    Presence,
    Signed,
    SmartRecord,
}

/// The properties in which values differ.
#[derive(Arbitrary, Clone, Debug)]
pub struct Says {
    /// The signer, which may differ from the owner of the key, or the node.
    by: u8,
    number: u8,
    /// Seconds after [`NOW`].
    from: u8,
    /// The lifetime in seconds.
    ttl: u16,
    variant: u8,
    content: Vec<u8>,
    said: Option<Said>,
}

impl Namespace {
    /// The record key of an owner.
    pub fn key(self, owner: &Keypair) -> RecordKey {
        let public = owner.public();
        match self {
            Self::PublicKey => PublicKeyValidator::key(&public),
            Self::Ipns => IpnsName::from(&public).key(),
            Self::Iprs => RecordKey::new(format!("/iprs/{}/x", public.to_peer_id())),
            Self::Presence => PresenceKey::of(public.to_peer_id()).as_record_key().clone(),
            Self::Signed => RecordKey::new("/signed/x"),
            Self::SmartRecord => RecordKey::new("/sr/x"),
        }
    }

    /// A signed value; `None` if the crate refuses to sign it.
    pub fn value(self, owner: &Keypair, says: &Says) -> Option<Vec<u8>> {
        let key = self.key(owner);
        let by = &author(says.by).0;
        let from = at(NOW + 1_000 * u64::from(says.from));
        let until = at(from.as_millis() + 1_000 * u64::from(says.ttl));
        let number = u64::from(says.number);
        Some(match self {
            Self::PublicKey => by.public().encode_protobuf(),
            Self::Ipns => {
                let value = format!("/ipns/x{}", says.content.escape_ascii());
                let builder = IpnsBuilder::new(value, number, until);
                let builder = if says.variant & 1 == 0 { builder } else { builder.without_v1() };
                let builder =
                    if says.variant & 2 == 0 { builder } else { builder.with_public_key() };
                builder.sign(owner, from).ok()?.as_bytes().to_vec()
            }
            Self::Iprs => {
                iprs(says)?.with_version(number % 3).sign(&key, owner).ok()?.as_bytes().to_vec()
            }
            Self::Presence => {
                let key = PresenceKey::of(owner.public().to_peer_id());
                let limits = PresenceLimits::default();
                let node = Writer::from(&by.public());
                let retain_until = at(until.as_millis() + 1_000 * number);
                let entry: PresenceEntry = if says.variant & 1 == 0 {
                    let exchange = [1 | says.variant; 32].try_into().ok()?;
                    let (handshake_key, presence_key) = (exchange, exchange);
                    let (created_at, expires_at) = (from, until);
                    let offer = AnnouncementOffer {
                        node,
                        handshake_key,
                        presence_key,
                        created_at,
                        expires_at,
                        retain_until,
                    };
                    offer
                        .sign(&key, owner, &limits)
                        .ok()?
                        .countersign(by, exchange, from, &limits)
                        .ok()?
                        .into()
                } else {
                    Withdrawal::sign(&key, owner, &node, from, retain_until, &limits).ok()?.into()
                };
                let mut record = PresenceRecord::new(key);
                record.insert(entry).ok()?;
                record.encode()
            }
            Self::Signed => {
                let record = UnsignedRecord::new(key, says.content.clone(), number);
                let record = if says.variant & 1 == 0 { record } else { record.until(until) };
                record.sign(by, &Default::default()).ok()?.as_bytes().to_vec()
            }
            Self::SmartRecord => {
                let (public_key, update) = says.said.as_ref()?.sign(&key);
                crate::forge::encode([crate::forge::Space { public_key, updates: vec![update] }])
            }
        })
    }

    /// A value with arbitrary content, signed by the owner of the key.
    pub fn forge(self, owner: &Keypair, content: &[u8]) -> Option<Vec<u8>> {
        let sign = |message: &[u8]| owner.sign(message).ok();
        let public_key = owner.public().encode_protobuf();
        Some(match self {
            Self::Ipns => {
                let signature = sign(&[b"ipns-signature:", content].concat())?;
                [field(7, &public_key), field(8, &signature), field(9, content)].concat()
            }
            Self::Signed => {
                let parts =
                    ["libp2p-signed-record".as_bytes(), b"/libp2p-signed-record/record", content];
                let signature = sign(&parts.map(framed).concat())?;
                [field(1, &public_key), field(2, parts[1]), field(3, content), field(5, &signature)]
                    .concat()
            }
            _ => return None,
        })
    }
}

fn iprs(says: &Says) -> Option<Record> {
    let (from, ttl, content) = (u64::from(says.from), u64::from(says.ttl), says.content.clone());
    match says.variant % 4 {
        0 => DatetimeRange::record(content, at(NOW + 1_000 * from), at(NOW + 1_000 * ttl)).ok(),
        1 => TtlSinceReceipt::record(content, std::time::Duration::from_secs(ttl)).ok(),
        2 => Some(Ancestry::first(content)),
        _ => Some(SequenceNumber::record(content, ttl)),
    }
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    prost::encoding::encode_varint(bytes.len() as u64, &mut framed);
    framed.extend_from_slice(bytes);
    framed
}
