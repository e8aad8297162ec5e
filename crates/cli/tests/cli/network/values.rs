//! Records of other namespaces.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, RecordKey, SystemClock,
    ipns::{IpnsBuilder, IpnsName},
    iprs::{IprsValidator, SequenceNumber, TtlSinceReceipt},
};
use serde_json::Value;

use super::{Running, failure, json, run, smart_record, start_node, text};

/// A node, and a file for values.
struct Bench {
    _node: Running,
    address: String,
    file: tempfile::NamedTempFile,
}

impl Bench {
    fn start() -> Self {
        let (node, address) = start_node(&[], &[]);
        Self { _node: node, address, file: tempfile::NamedTempFile::new().unwrap() }
    }

    /// Arguments that put a value under a key.
    fn put(&self, key: &str, value: &[u8]) -> Vec<String> {
        std::fs::write(self.file.path(), value).unwrap();
        let file = self.file.path().to_str().unwrap();
        ["put", key, file, "--connect", &self.address].map(str::to_owned).to_vec()
    }

    fn published(&self, key: &str, value: &[u8]) -> Value {
        let put = self.put(key, value);
        let put: Vec<&str> = put.iter().map(String::as_str).collect();
        json(&put)
    }

    fn got(&self, key: &str) -> Value {
        let mut got = json(&["get", key, "--connect", &self.address]);
        got.as_object_mut().unwrap().remove("withheld").unwrap();
        got
    }
}

fn now() -> libp2p_smart_record::Timestamp {
    SystemClock.now()
}

fn until() -> libp2p_smart_record::Timestamp {
    now().saturating_add(Duration::from_secs(3_600))
}

#[test]
fn an_ipns_record_is_put_read_and_watched_and_a_forged_one_is_refused() {
    let bench = Bench::start();
    let owner = Keypair::generate_ed25519();
    let name = IpnsName::from(&owner.public());
    let key = format!("/ipns/{name}");
    let old = IpnsBuilder::new("/ipfs/bafkqaaa", 7, until()).sign(&owner, now()).unwrap();
    let put = bench.published(&key, old.as_bytes());
    assert_eq!((&put["key"], &put["namespace"]), (&key.as_str().into(), &"ipns".into()));
    assert_eq!(put["peers"].as_array().unwrap().len(), 1);

    let got = bench.got(&format!("/ipns/{}", name.peer_id()));
    assert_eq!(got["value"], "/ipfs/bafkqaaa");
    assert_eq!(got["seq"], "7");
    assert_eq!(got["writer"], name.peer_id().to_string());
    assert_eq!(got["expires_at"], old.eol().to_string());
    assert_eq!(got["bytes"], old.as_bytes().len());
    assert_eq!(got["peers"], put["peers"]);
    let shown = text(&run(&["get", &key, "--connect", &bench.address]).stdout);
    assert!(shown.contains("/ipfs/bafkqaaa"), "{shown}");

    let watch = smart_record(&["watch", &key, "--json", "--connect", &bench.address]);
    let watch = Running::spawn(watch);
    let seen = |line: &str| serde_json::from_str::<Value>(line).unwrap()["value"].clone();
    assert_eq!(seen(&watch.line()), "/ipfs/bafkqaaa");
    let new = IpnsBuilder::following(&old, "/ipfs/bafkqaalb", until()).sign(&owner, now()).unwrap();
    bench.published(&key, new.as_bytes());
    assert_eq!(seen(&watch.line()), "/ipfs/bafkqaalb");
    // The store of the process accepts the old record; the network has a newer one.
    let put = bench.put(&key, old.as_bytes());
    smart_record(&put.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    assert_eq!(bench.got(&key)["value"], "/ipfs/bafkqaalb");

    let forged = IpnsBuilder::new("/ipfs/bafkqaaa", 9, until())
        .sign(&Keypair::generate_ed25519(), now())
        .unwrap();
    let put = bench.put(&key, forged.as_bytes());
    let refused = failure(&put.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused["kind"], "refused");
}

#[test]
fn a_public_key_is_put_and_got() {
    let bench = Bench::start();
    let public_key = Keypair::generate_ecdsa().public();
    let key = format!("/pk/{}", public_key.to_peer_id());
    bench.published(&key, &public_key.encode_protobuf());
    let got = bench.got(&key);
    assert_eq!((&got["key"], &got["namespace"]), (&key.as_str().into(), &"pk".into()));
    assert_eq!(got["peer"], public_key.to_peer_id().to_string());
    assert_eq!(got["key_type"], "Ecdsa");
    assert_eq!(got["bytes"], public_key.encode_protobuf().len());
    let inspected = json(&["inspect", &key, "--connect", &bench.address]);
    assert_eq!(inspected["public_key"], got["public_key"]);
}

#[test]
fn iprs_records_are_put_and_got() {
    let bench = Bench::start();
    let author = Keypair::generate_ed25519();
    let peer = author.public().to_peer_id();
    let put = |name: &str, record: libp2p_smart_record::iprs::Record| {
        let key = format!("/iprs/{peer}/{name}");
        let record = record.sign(&RecordKey::new(key.as_str()), &author).unwrap();
        bench.published(&key, &IprsValidator::default().marshal(&record).unwrap());
        (record, bench.got(&key))
    };
    let (record, got) = put("a", SequenceNumber::record("hello", 3));
    assert_eq!((&got["value"], &got["scheme"]), (&"hello".into(), &"sequence-number".into()));
    assert_eq!((&got["writer"], &got["version"]), (&peer.to_string().into(), &0.into()));
    assert_eq!(got["cid"], record.cid().to_string());
    assert_eq!(got["expires_at"], Value::Null);
    let for_an_hour = TtlSinceReceipt::record("hello", Duration::from_secs(3_600)).unwrap();
    let (_, got) = put("b", for_an_hour);
    assert_eq!((&got["ttl_seconds"], &got["scheme"]), (&3_600.into(), &"ttl-since-receipt".into()));
}

#[test]
fn case_12_a_record_is_found_under_the_key_that_was_printed() {
    let bench = Bench::start();
    for key in ["/sr/café", r"/sr/a\x1b\\b\xff"] {
        let put = json(&["publish", key, r#"{"a": 1}"#, "--connect", &bench.address]);
        let printed = put["key"].as_str().unwrap();
        let got = bench.got(printed);
        assert_eq!((&got["key"], &got["spaces"][0]["document"]["a"]), (&printed.into(), &1.into()));
    }
}

#[test]
fn case_6_a_record_is_found_under_any_form_of_its_peer_id() {
    let bench = Bench::start();
    let public_key = Keypair::generate_ed25519().public();
    let name = IpnsName::from(&public_key);
    let put = bench.published(&format!("/pk/{name}"), &public_key.encode_protobuf());
    for key in [format!("/pk/{name}"), format!("/pk/{}", name.peer_id())] {
        let got = bench.got(&key);
        assert_eq!((&got["key"], &got["peer"]), (&put["key"], &name.peer_id().to_string().into()));
    }
}
