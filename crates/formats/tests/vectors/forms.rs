//! The JSON form of nodes and views in vectors.

use serde_json::{Map, Value, json};
use smart_record_core::{Dict, Kind, Node, Timestamp, View};

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node: its kind, its content and its lifetime, if any.
pub fn node(node: &Node) -> Value {
    let content = match &node.kind {
        Kind::Bool(v) => json!(v),
        Kind::Int(v) => json!(v),
        Kind::Float(v) if v.get().is_finite() => json!(v.get()),
        Kind::Float(v) => json!(v.get().to_string()),
        Kind::String(v) => json!(v),
        Kind::Bytes(v) => json!(hex(v)),
        Kind::Link(v) => json!(hex(v.to_bytes())),
        Kind::Set(v) => nodes(v.iter()),
        Kind::List(v) => nodes(v.iter()),
        Kind::Dict(v) => pairs(v),
        Kind::Predicate(v) => json!({
            "tag": v.tag,
            "positional": nodes(v.positional.iter()),
            "named": pairs(&v.named),
        }),
        Kind::Opaque(v) => json!(hex(v.as_bytes())),
        other => panic!("no form for {other:?}"),
    };
    let mut object = Map::from_iter([(node.kind.name().to_owned(), content)]);
    if let Some(at) = node.expires_at {
        object.insert("expires_at".to_owned(), json!(at.as_millis()));
    }
    Value::Object(object)
}

fn nodes<'a>(nodes: impl Iterator<Item = &'a Node>) -> Value {
    Value::Array(nodes.map(node).collect())
}

/// The pairs of a Dict.
pub fn pairs(dict: &Dict) -> Value {
    let pair = |(key, value): (&Kind, &Node)| json!([node(&Node::new(key.clone())), node(value)]);
    Value::Array(dict.iter().map(pair).collect())
}

/// A view at an instant.
pub fn view(now: u64, view: &View) -> Value {
    let spaces: Vec<_> = view
        .iter()
        .map(|(writer, space)| {
            json!({
                "public_key": hex(writer.as_bytes()),
                "peer_id": writer.peer_id().to_string(),
                "seq": space.seq.as_micros(),
                "expires_at": space.expires_at.as_millis(),
                "document": pairs(&space.document),
            })
        })
        .collect();
    json!({ "now": now, "spaces": spaces })
}

pub fn millis(at: Option<Timestamp>) -> Value {
    json!(at.map(Timestamp::as_millis))
}
