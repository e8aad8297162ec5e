//! Ranks of spaces, and shards of topics.

use serde_json::{Value, json};
use smart_record_core::{Limits, RecordKey, ShardedKey};
use smart_record_testing::forge::Author;

use super::{case, refused};
use crate::forms::hex;

pub fn ranks() -> Vec<Value> {
    let authors = Author::all_types();
    let keys = ["/sr/a", "/sr/rooms/lobby"];
    let pairs = keys.iter().flat_map(|key| authors.iter().map(move |author| (*key, author)));
    pairs
        .zip(["ed25519", "secp256k1", "ecdsa", "rsa"].iter().cycle())
        .map(|((key, author), name)| {
            let rank = author.writer().rank(&RecordKey::new(key));
            case(
                &format!("{key} {name}"),
                "6.4",
                "sha256(key ‖ public key).",
                [
                    ("key", json!(hex(key))),
                    ("public_key", json!(hex(author.public_key()))),
                    ("rank", json!(hex(rank))),
                ],
            )
        })
        .collect()
}

pub fn shards() -> Vec<Value> {
    let writers = [Author::ed25519(1), Author::ed25519(2), Author::ecdsa()];
    let topics = ["/sr/rooms/lobby", "/sr/"];
    let mut cases = Vec::new();
    for topic in topics {
        for bits in [0, 1, 4, 8, 9, 16] {
            let sharded = ShardedKey::new(topic.into(), bits, &Limits::default()).unwrap();
            for (n, writer) in writers.iter().enumerate() {
                let key = sharded.key_for(&writer.peer_id());
                let name = format!("{topic} {bits} {n}");
                cases.push(case(
                    &name,
                    "11",
                    "The key of a writer.",
                    [
                        ("topic", json!(hex(topic))),
                        ("bits", json!(bits)),
                        ("peer_id", json!(writer.peer_id().to_string())),
                        ("key", json!(hex(key.as_bytes()))),
                        ("key_text", json!(key.to_string())),
                    ],
                ));
            }
        }
    }
    for (name, about, topic_bytes) in [
        (
            "longest",
            "The longest key of the topic has 256 bytes.",
            256 - "/shard/65536/65535".len(),
        ),
        ("too-long", "One byte more.", 257 - "/shard/65536/65535".len()),
    ] {
        let topic = format!("/sr/{}", "k".repeat(topic_bytes - 4));
        let peer = writers[0].peer_id();
        let fields = [
            ("topic", json!(hex(&topic))),
            ("bits", json!(16)),
            ("peer_id", json!(peer.to_string())),
        ];
        let mut case = case(name, "11", about, fields);
        match ShardedKey::new(topic.into(), 16, &Limits::default()) {
            Ok(sharded) => {
                let key = sharded.key_for(&peer);
                case["key"] = json!(hex(key.as_bytes()));
                case["key_text"] = json!(key.to_string());
            }
            Err(_) => case["refused"] = refused("limit", "key-bytes"),
        }
        cases.push(case);
    }
    cases
}
