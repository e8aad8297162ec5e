//! The parts of smart records: keys, signatures, documents, ranks, shards.

use serde_json::{Value, json};
use smart_record_core::{
    Cid, Coverage, Dict, DocumentLimits, Float, Kind, Limits, List, Node, Predicate, RecordKey,
    Seq, Set, ShardError, ShardedKey, SpaceRules, Stamp, Timestamp, ValidationError, Writer, codec,
    envelope_bytes,
};
use smart_record_testing::{
    at,
    vectors::{bytes, text},
};

use super::{all_bytes, each, unhex};
use crate::{forms, make, reasons};

#[test]
fn keys() {
    each("sr/keys", |case| match Writer::decode(bytes(case, "public_key").into()) {
        Ok(writer) => {
            assert!(case["refused"].is_null());
            assert_eq!(writer.peer_id().to_string(), text(case, "peer_id"));
            assert_eq!(writer.peer_id().to_bytes(), bytes(case, "peer_id_bytes"));
        }
        Err(error) => {
            assert_eq!(case["refused"]["reason"], json!(reasons::writer(&error)));
            let fault = ValidationError::from(error).fault();
            assert_eq!(case["refused"]["fault"], json!(fault.as_str()));
        }
    });
}

#[test]
fn signatures() {
    each("sr/signatures", |case| {
        let body = bytes(case, "body");
        let mut payload = body.clone();
        if !case["key"].is_null() {
            let key = bytes(case, "key");
            // Keys in vectors are short.
            payload = [&[u8::try_from(key.len()).unwrap()], &key[..], &body].concat();
        }
        let (domain, payload_type) = (text(case, "domain"), text(case, "payload_type"));
        let preimage = envelope_bytes(domain, payload_type.as_bytes(), &[&payload]);
        assert_eq!(preimage, bytes(case, "preimage"));
        let writer = Writer::decode(bytes(case, "public_key").into()).unwrap();
        let verified = writer.verify_bytes(&preimage, &bytes(case, "signature"));
        assert_eq!(json!(verified.is_ok()), case["good"]);
    });
}

#[test]
fn documents() {
    each("sr/documents", |case| {
        let encoded = bytes(case, "bytes");
        match codec::decode(&encoded, DocumentLimits::default()) {
            Ok(dict) => {
                assert_eq!(forms::pairs(&dict), case["document"]);
                assert_eq!(codec::encode(&dict), encoded);
                // Also from the bytes in the vector.
                assert_eq!(dict_of(&case["document"]), dict);
            }
            Err(error) => {
                assert_eq!(case["refused"]["reason"], json!(reasons::document(&error)));
                let fault = reasons::document_fault(&error);
                assert_eq!(case["refused"]["fault"], json!(fault.as_str()));
            }
        }
    });
}

fn dict_of(pairs: &Value) -> Dict {
    let pairs = pairs.as_array().unwrap();
    pairs.iter().map(|pair| (node_of(&pair[0]).kind, node_of(&pair[1]))).collect()
}

fn node_of(value: &Value) -> Node {
    let object = value.as_object().unwrap();
    let (name, content) = object.iter().find(|(name, _)| *name != "expires_at").unwrap();
    let all = |content: &Value| content.as_array().unwrap().iter().map(node_of).collect::<Vec<_>>();
    let hex = || unhex(content.as_str().unwrap());
    let kind: Kind = match &name[..] {
        "Bool" => content.as_bool().unwrap().into(),
        "Int" => content.as_i64().unwrap().into(),
        "Float" => match content.as_str() {
            Some("inf") => Float::INFINITY.into(),
            Some("-inf") => Float::NEG_INFINITY.into(),
            _ => Float::new(content.as_f64().unwrap()).unwrap().into(),
        },
        "String" => content.as_str().unwrap().into(),
        "Bytes" => hex().into(),
        "Link" => Cid::try_from(hex()).unwrap().into(),
        "Set" => all(content).into_iter().collect::<Set>().into(),
        "List" => all(content).into_iter().collect::<List>().into(),
        "Dict" => dict_of(content).into(),
        "Predicate" => Predicate {
            tag: content["tag"].as_str().unwrap().to_owned(),
            positional: all(&content["positional"]).into_iter().collect(),
            named: dict_of(&content["named"]),
        }
        .into(),
        "Opaque" => {
            Node::from_ipld(smart_record_formats::iprs::Ipld::Map(
                [("Opaque".to_owned(), smart_record_formats::iprs::Ipld::Bytes(hex()))].into(),
            ))
            .unwrap()
            .kind
        }
        other => panic!("{other}"),
    };
    let expires_at = value["expires_at"].as_u64().map(Timestamp::from_millis);
    Node { kind, expires_at }
}

#[test]
fn order() {
    each("sr/order", |case| {
        let encoded = all_bytes(case, "ascending");
        // Each node as the value of a document, which shows that it is canonical.
        let nodes: Vec<Node> = encoded
            .iter()
            .map(|node| {
                let document = crate::make::just(node);
                let dict = codec::decode(&document, DocumentLimits::default()).unwrap();
                dict.get("k").unwrap().clone()
            })
            .collect();
        for pair in nodes.windows(2) {
            assert!(pair[0].cmp_content(&pair[1]).is_lt(), "{} {}", pair[0], pair[1]);
        }
        // A set of them has this order, whatever the order of insertion.
        let set: Set = nodes.iter().rev().cloned().collect();
        assert_eq!(set.iter().cloned().collect::<Vec<_>>(), nodes);
    });
}

#[test]
fn ranks() {
    each("sr/ranks", |case| {
        let writer = Writer::decode(bytes(case, "public_key").into()).unwrap();
        let rank = writer.rank(&RecordKey::new(bytes(case, "key")));
        assert_eq!(rank[..], bytes(case, "rank"));
    });
}

#[test]
fn stamps() {
    each("sr/stamps", |case| {
        let writer = Writer::decode(bytes(case, "public_key").into()).unwrap();
        let rank = writer.rank(&RecordKey::new(bytes(case, "key")));
        let seq = Seq::from_micros(case["seq"].as_u64().unwrap());
        let work = Stamp::decode(&bytes(case, "stamp")).map_or(0, |stamp| stamp.work(&rank, seq));
        assert_eq!(json!(work), case["work"]);
    });
}

#[test]
fn coverage() {
    each("sr/coverage", |case| {
        let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
        let coverage = Coverage::of_answer(&value);
        assert_eq!(make::coverage::shown(coverage), case["coverage"]);
        assert_eq!(json!(make::coverage::asker(&value)), case["asker"]);
        let now = at(case["now"].as_u64().unwrap());
        let record = SpaceRules::default().read(&key, &value, now).unwrap();
        assert_eq!(record.digest(now)[..], bytes(case, "digest"));
    });
}

#[test]
fn shards() {
    each("sr/shards", |case| {
        let topic = RecordKey::new(bytes(case, "topic"));
        let bits = case["bits"].as_u64().unwrap().try_into().unwrap();
        let sharded = match ShardedKey::new(topic, bits, &Limits::default()) {
            Ok(sharded) => sharded,
            Err(ShardError::Key(exceeded)) => {
                let error = ValidationError::from(exceeded);
                assert_eq!(case["refused"]["fault"], json!(error.fault().as_str()));
                assert_eq!(case["refused"]["reason"], json!(reasons::reason(&error)));
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(case["refused"].is_null());
        let peer = text(case, "peer_id").parse().unwrap();
        assert_eq!(sharded.key_for(&peer).as_bytes(), bytes(case, "key"));
    });
}
