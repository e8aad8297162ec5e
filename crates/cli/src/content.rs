//! The content of a record of any namespace, as people and scripts see it.
//!
//! **Invariants.** The content was validated: for its key, signed, not expired.

use anyhow::Result;
use libp2p::identity::PublicKey;
use libp2p_smart_record::{
    RecordKey, Registry, SmartRecord, SpaceRules, Timestamp, ValidationError, Validator, Validity,
    Writer, dag_json, escaped,
    ipns::{ContentPath, IpnsRecord, IpnsValidator},
    iprs::{
        Ancestry, DatetimeRange, IprsRecord, IprsValidator, Scheme, SequenceNumber, TtlSinceReceipt,
    },
    presence::{Announcement, ExchangeKey, PresenceRecord, PresenceValidator},
    printable,
    query::Snapshot,
};
use serde_json::{Map, Value, json};

use crate::{
    keys,
    output::{Rows, json_cell},
};

/// Content of a record.
pub struct Content {
    pub key: RecordKey,
    /// The bytes of the value in Kademlia.
    pub bytes: Vec<u8>,
    pub kind: ContentKind,
}

/// Content of a record by namespace.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum ContentKind {
    Smart(SmartRecord),
    PublicKey(PublicKey),
    Ipns(IpnsRecord),
    Iprs(IprsRecord, Validity),
    Presence(PresenceRecord),
}

impl Content {
    /// Decodes and validates a value under `key` at `now`.
    pub fn read(key: &RecordKey, value: &[u8], now: Timestamp) -> Result<Self, ValidationError> {
        let unsupported = || {
            let namespace = key.namespace().unwrap_or_default();
            ValidationError::Unsupported(format!("the namespace /{namespace}/ is unknown"))
        };
        let kind = match key.namespace().ok_or_else(unsupported)? {
            Registry::SMART_RECORDS => {
                ContentKind::Smart(SpaceRules::default().read(key, value, now)?)
            }
            libp2p_smart_record::pk::NAMESPACE => {
                libp2p_smart_record::built_in().validate(key, value, now)?;
                let public_key = PublicKey::try_decode_protobuf(value)
                    .map_err(|error| ValidationError::Invalid(error.to_string()))?;
                ContentKind::PublicKey(public_key)
            }
            libp2p_smart_record::ipns::NAMESPACE => {
                ContentKind::Ipns(IpnsValidator.read(key, value, now)?)
            }
            libp2p_smart_record::iprs::NAMESPACE => {
                let rules = IprsValidator::default();
                ContentKind::Iprs(rules.read(key, value, now)?, rules.validate(key, value, now)?)
            }
            libp2p_smart_record::presence::PresenceKey::NAMESPACE => {
                ContentKind::Presence(PresenceValidator::default().read(key, value, now)?)
            }
            _ => return Err(unsupported()),
        };
        Ok(Self { key: key.clone(), bytes: value.to_vec(), kind })
    }

    /// The content of a smart record.
    pub fn of_record(record: &SmartRecord) -> Self {
        let (key, bytes) = (record.key().clone(), record.encode());
        Self { key, bytes, kind: ContentKind::Smart(record.clone()) }
    }

    /// The content of a snapshot; `None` if it is empty.
    pub fn of(snapshot: &Snapshot) -> Result<Option<Self>> {
        let key = &snapshot.key;
        match (snapshot.record(), snapshot.value()) {
            (Some(record), _) if record.spaces().len() > 0 => Ok(Some(Self::of_record(record))),
            (_, Some(value)) => Ok(Some(Self::read(key, value, snapshot.at)?)),
            _ => Ok(None),
        }
    }

    /// Whether the record has visible content at `now`. Withdrawn content is not visible.
    pub fn says_something(&self, now: Timestamp) -> bool {
        match &self.kind {
            ContentKind::Smart(record) => !record.view(now).is_empty(),
            ContentKind::Presence(record) => record.view(now).next().is_some(),
            ContentKind::PublicKey(_) | ContentKind::Ipns(_) | ContentKind::Iprs(..) => true,
        }
    }

    /// What distinguishes it from others under its key, in the words and forms of the options of
    /// `publish`. `None` for a record of many writers.
    pub fn summary(&self) -> Option<String> {
        match &self.kind {
            ContentKind::Ipns(record) => {
                Some(format!("sequence {}, until {}", record.sequence(), record.eol()))
            }
            ContentKind::Iprs(record, validity) => {
                let (scheme, version) = (scheme(record), record.version());
                let sequence = SequenceNumber::of(record).map(|n| format!(", sequence {n}"));
                let until = validity.expires_at.map(|at| format!(", until {at}"));
                let (sequence, until) = (sequence.unwrap_or_default(), until.unwrap_or_default());
                Some(format!("scheme {scheme}, version {version}{sequence}{until}"))
            }
            ContentKind::Smart(_) | ContentKind::PublicKey(_) | ContentKind::Presence(_) => None,
        }
    }

    /// The time for which a resolver may use an IPNS record, or for which an IPRS record is valid
    /// after its receipt, as `--ttl` takes it.
    pub fn ttl(&self, now: Timestamp) -> Option<String> {
        let ttl = match &self.kind {
            ContentKind::Ipns(record) => record.ttl(now)?,
            ContentKind::Iprs(_, validity) => validity.ttl_since_receipt?,
            _ => return None,
        };
        let ttl = std::time::Duration::from_secs(ttl.as_secs());
        Some(format!("ttl {}", humantime::format_duration(ttl)))
    }

    /// The content at `now` as JSON.
    pub fn json(&self, now: Timestamp) -> Map<String, Value> {
        let mut fields = about(&self.key);
        fields.insert("bytes".to_owned(), self.bytes.len().into());
        let said = match &self.kind {
            ContentKind::Smart(record) => json!({ "spaces": spaces(record, now) }),
            ContentKind::PublicKey(public_key) => json!({
                "peer": public_key.to_peer_id().to_string(),
                "key_type": public_key.key_type().to_string(),
                "public_key": keys::hex(&public_key.encode_protobuf()),
                "expires_at": null,
            }),
            ContentKind::Ipns(record) => json!({
                "writer": record.name().peer_id().to_string(),
                "value": path(record, |path| path.as_str().to_owned()),
                "seq": record.sequence().to_string(),
                "expires_at": record.eol().to_string(),
                "ttl_seconds": record.ttl(now).map(|ttl| ttl.as_secs()),
            }),
            ContentKind::Iprs(record, validity) => json!({
                "writer": record.author().to_string(),
                "value": ipld(record),
                "scheme": scheme(record),
                "version": record.version(),
                "seq": SequenceNumber::of(record).map(|seq| seq.to_string()),
                "cid": record.cid().to_string(),
                "expires_at": validity.expires_at.map(|at| at.to_string()),
                "ttl_seconds": validity.ttl_since_receipt.map(|ttl| ttl.as_secs()),
            }),
            ContentKind::Presence(record) => {
                json!({ "announcements": record.view(now).map(announcement).collect::<Vec<_>>() })
            }
        };
        if let Value::Object(said) = said {
            fields.extend(said);
        }
        fields
    }

    /// The content at `now` as rows.
    pub fn rows(&self, now: Timestamp) -> Rows {
        // No duration stands for a record that states no end: none is given to publish one.
        let until = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| left(at, now));
        match &self.kind {
            ContentKind::Smart(record) => Rows {
                header: vec!["writer", "seq", "expires in", "document"],
                rows: record
                    .view(now)
                    .iter()
                    .map(|(writer, space)| {
                        let document = json_cell(&space.document.to_json());
                        let seq = space.seq.to_string();
                        vec![writer.to_string(), seq, left(space.expires_at, now), document]
                    })
                    .collect(),
            },
            ContentKind::PublicKey(public_key) => Rows {
                header: vec!["peer", "type", "public key"],
                rows: vec![vec![
                    public_key.to_peer_id().to_string(),
                    public_key.key_type().to_string(),
                    keys::hex(&public_key.encode_protobuf()),
                ]],
            },
            ContentKind::Ipns(record) => Rows {
                header: vec!["writer", "seq", "expires in", "value"],
                rows: vec![vec![
                    record.name().to_string(),
                    record.sequence().to_string(),
                    left(record.eol().expires_at(), now),
                    path(record, |path| escaped(path.as_str()).to_string()),
                ]],
            },
            ContentKind::Iprs(record, validity) => Rows {
                header: vec!["writer", "scheme", "version", "expires in", "value"],
                rows: vec![vec![
                    record.author().to_string(),
                    scheme(record),
                    record.version().to_string(),
                    until(validity.expires_at),
                    json_cell(&ipld(record)),
                ]],
            },
            ContentKind::Presence(record) => announcements(record.view(now), now),
        }
    }
}

/// JSON for a record without content.
pub fn nothing(key: &RecordKey) -> Map<String, Value> {
    let mut fields = about(key);
    match key.namespace() {
        Some(Registry::SMART_RECORDS) => fields.insert("spaces".to_owned(), json!([])),
        Some(libp2p_smart_record::presence::PresenceKey::NAMESPACE) => {
            fields.insert("announcements".to_owned(), json!([]))
        }
        _ => fields.insert("value".to_owned(), Value::Null),
    };
    fields
}

fn about(key: &RecordKey) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("key".to_owned(), keys::show(key).into());
    fields.insert("namespace".to_owned(), key.namespace().unwrap_or_default().into());
    fields
}

fn spaces(record: &SmartRecord, now: Timestamp) -> Vec<Value> {
    let view = record.view(now);
    let said = view.iter().map(|(writer, space)| {
        json!({
            "writer": writer.to_string(),
            "seq": space.seq.to_string(),
            "expires_at": space.expires_at.to_string(),
            "work": work(record, writer),
            "document": space.document.to_json(),
        })
    });
    said.collect()
}

/// The bits of work of a writer's space.
pub fn work(record: &SmartRecord, writer: &Writer) -> u8 {
    record.space(writer).map_or(0, |space| space.work(&writer.rank(record.key())))
}

/// Announcements as rows.
pub fn announcements<'a>(
    announcements: impl IntoIterator<Item = &'a Announcement>,
    now: Timestamp,
) -> Rows {
    let row = |announcement: &Announcement| {
        vec![
            announcement.client().to_string(),
            announcement.node().to_string(),
            left(announcement.expires_at(), now),
        ]
    };
    Rows {
        header: vec!["client", "is at node", "expires in"],
        rows: announcements.into_iter().map(row).collect(),
    }
}

/// An announcement as JSON.
pub fn announcement(announcement: &Announcement) -> Value {
    let hex = |key: ExchangeKey| keys::hex(key.as_bytes());
    json!({
        "client": announcement.client().to_string(),
        "node": announcement.node().to_string(),
        "expires_at": announcement.expires_at().to_string(),
        "presence_key": hex(announcement.presence_key()),
        "handshake_key": hex(announcement.handshake_key()),
    })
}

/// The time until `at`, in whole seconds.
pub fn left(at: Timestamp, now: Timestamp) -> String {
    let left = at.saturating_since(now).as_secs();
    humantime::format_duration(std::time::Duration::from_secs(left)).to_string()
}

fn scheme(record: &IprsRecord) -> String {
    let known: [(_, &dyn Scheme); 4] = [
        ("datetime-range", &DatetimeRange),
        ("ttl-since-receipt", &TtlSinceReceipt),
        ("ancestry", &Ancestry),
        ("sequence-number", &SequenceNumber),
    ];
    known
        .iter()
        .find(|(_, scheme)| scheme.description().cid() == record.scheme())
        .map_or_else(|| record.scheme().to_string(), |(name, _)| (*name).to_owned())
}

/// The value as DAG-JSON; `null` if it would be read as another value, such as an integer below
/// `i64::MIN` or a map with the key `"/"`.
fn ipld(record: &IprsRecord) -> Value {
    let encoded = serde_ipld_dagjson::to_vec(record.value()).ok();
    let faithful =
        encoded.filter(|json| dag_json::from_slice(json).is_ok_and(|read| read == *record.value()));
    faithful.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null)
}

/// What a name points to. A value that is no path is escaped.
fn path(record: &IpnsRecord, text: impl FnOnce(&ContentPath) -> String) -> String {
    record.path().map_or_else(|_| printable(record.value()).to_string(), |path| text(&path))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use libp2p_smart_record::iprs::Ipld;

    use super::*;

    #[test]
    fn case_11_a_value_that_dag_json_has_no_form_for_is_not_shown_as_another() {
        let keypair = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let key = RecordKey::new(format!("/iprs/{}/a", keypair.public().to_peer_id()));
        let shown =
            |value: Ipld| ipld(&SequenceNumber::record(value, 0).sign(&key, &keypair).unwrap());
        assert_eq!(shown(Ipld::Integer(u64::MAX.into())), json!(u64::MAX));
        assert_eq!(shown(Ipld::Integer(i64::MIN.into())), json!(i64::MIN));
        assert_eq!(shown(Ipld::Integer(i128::from(i64::MIN) - 1)), Value::Null);
        let reserved =
            |value: &str| Ipld::Map([("/".to_owned(), Ipld::String(value.into()))].into());
        assert_eq!(shown(reserved("bafkqaaa")), Value::Null);
    }
}
