//! Signed updates, and values of smart records that hold them in any order.

use arbitrary::Arbitrary;
use libp2p_smart_record::{RecordKey, codec};

use crate::{
    author,
    damage::Damage,
    documents::Document,
    forge::{self, NOW, SignedUpdate, Space},
};

/// An update of an author, valid or not.
#[derive(Arbitrary, Clone, Debug)]
pub struct Said {
    by: u8,
    /// Microseconds after [`NOW`].
    after: u16,
    /// The lifetime in seconds.
    ttl: u16,
    /// The time in seconds for which it is retained after that.
    retained: Option<u16>,
    replaces: bool,
    content: Content,
    extensions: Vec<(u8, Vec<u8>)>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Content {
    Document(Document),
    Bytes(Vec<u8>),
}

impl Said {
    /// The public key of its author, and the signed update.
    pub fn sign(&self, key: &RecordKey) -> (Vec<u8>, SignedUpdate) {
        let expires_at = NOW + 1_000 * u64::from(self.ttl);
        let update = forge::Update {
            seq: NOW * 1_000 + u64::from(self.after),
            expires_at,
            retain_until: self.retained.map(|secs| expires_at + 1_000 * u64::from(secs)),
            kind: self.replaces.into(),
            document: match &self.content {
                Content::Document(document) => codec::encode(&document.0),
                Content::Bytes(bytes) => bytes.clone(),
            },
        };
        let mut bytes = prost::Message::encode_to_vec(&update);
        // Mostly allowed fields, in any order.
        for (number, content) in self.extensions.iter().take(4) {
            bytes.extend(forge::field(14 + u32::from(number % 20), content));
        }
        let author = author(self.by);
        (author.public_key(), author.sign_bytes(key, bytes))
    }
}

/// A value with some of the updates, each in a space of its own.
#[derive(Arbitrary, Clone, Debug)]
pub struct Packed {
    picks: Vec<Pick>,
    damage: Vec<Damage>,
}

#[derive(Arbitrary, Clone, Debug)]
struct Pick {
    update: u8,
    /// Whether the update is in the space of the next update, which may have another author.
    strays: bool,
}

impl Packed {
    /// The encoded value.
    pub fn encode(&self, signed: &[(Vec<u8>, SignedUpdate)]) -> Vec<u8> {
        let of = |at: usize| &signed[at % signed.len()];
        let spaces = self.picks.iter().take(8).filter(|_| !signed.is_empty()).map(|pick| {
            let at = usize::from(pick.update);
            let public_key = of(at + usize::from(pick.strays)).0.clone();
            Space { public_key, updates: vec![of(at).1.clone()] }
        });
        Damage::all(&self.damage, forge::encode(spaces))
    }
}
