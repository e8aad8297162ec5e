//! Every built-in validator: nothing panics, and all its functions accept a value that one accepts.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use libp2p_smart_record::{RecordKey, Registry, signed::SignedRecordValidator};
use libp2p_smart_record_fuzz::{
    author,
    damage::Damage,
    forge::{NOW, at},
    laws::Laws,
    values::{Namespace, Says, VECTORS},
};

#[derive(Arbitrary, Debug)]
struct Input {
    namespace: Namespace,
    owner: u8,
    values: [Value; 3],
    key: Key,
    /// Seconds.
    later: u16,
}

#[derive(Arbitrary, Debug)]
enum Key {
    Owner,
    Vector(u8),
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Made(Says, Vec<Damage>),
    /// A value made by another implementation.
    Vector(u8, Vec<Damage>),
    /// Content chosen by the fuzzer, validly signed.
    Forged(Vec<u8>),
    Raw(Vec<u8>),
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    libp2p_smart_record::built_in().with_fallback(SignedRecordValidator::default())
});

fuzz_target!(|input: Input| {
    let (namespace, owner) = (input.namespace, &author(input.owner).0);
    let vector = |at: u8| &VECTORS[usize::from(at) % VECTORS.len()];
    let key = match input.key {
        Key::Owner => namespace.key(owner),
        Key::Vector(at) => vector(at).0.clone(),
        Key::Raw(key) => RecordKey::new(key),
    };
    let now = at(NOW + 1_000 * u64::from(input.later));
    let values = input.values.map(|value| match value {
        Value::Made(says, damage) => {
            Damage::all(&damage, namespace.value(owner, &says).unwrap_or_default())
        }
        Value::Vector(at, damage) => Damage::all(&damage, vector(at).1.clone()),
        Value::Forged(content) => namespace.forge(owner, &content).unwrap_or(content),
        Value::Raw(value) => value,
    });
    let combines = matches!(key.namespace(), Some("sr" | "presence"));
    let namespace = REGISTRY.resolve(&key).expect("there is a fallback");
    Laws { namespace, key: &key, now, combines }.check(&values.each_ref().map(|v| &v[..]));
});
