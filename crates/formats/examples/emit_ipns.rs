//! Prints IPNS records for other implementations to check: one JSON object per line, with the
//! expected result. `scripts/interop-ipns` passes them to the npm package `ipns`.
//!
//! `cargo run --features ipns --example emit_ipns`

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use serde_json::json;
use smart_record_core::Timestamp;
use smart_record_formats::ipns::{Eol, IpnsBuilder, IpnsName, IpnsRecord};
use smart_record_testing::keys;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print(what: &str, name: &IpnsName, record: &IpnsRecord, is_best: Option<bool>) {
    let line = json!({
        "what": what,
        "accepted": is_best.is_some(),
        "is_best": is_best,
        "value": String::from_utf8_lossy(record.value()),
        "sequence": record.sequence().to_string(),
        "ttl": record.ttl(Timestamp::EPOCH).map(|ttl| ttl.as_nanos().to_string()),
        "validity": record.eol().to_string(),
        "key": hex(name.key().as_bytes()),
        "record": hex(record.as_bytes()),
    });
    println!("{line}");
}

fn main() -> Result<(), Box<dyn Error>> {
    // No ECDSA: libp2p's JavaScript encodes public keys of that type in a form that differs from
    // the specification, and accepts no other.
    let keys = [keys::ed25519(1), keys::secp256k1(), keys::rsa()];
    let day = Duration::from_secs(86_400);
    let until = Eol::from(Timestamp::from(SystemTime::now()).saturating_add(day));
    let precise: Eol = "2123-11-14T22:13:20.000000001Z".parse()?;
    let greatest = u64::try_from(i64::MAX)?;
    let other = keys::ed25519(2);
    for keypair in &keys {
        let name = IpnsName::from(&keypair.public());
        let with = |text: &str| format!("{:?}: {text}", keypair.key_type());
        let new = |sequence, eol: Eol| IpnsBuilder::new("/ipfs/bafkqaaa", sequence, eol);
        for (what, builder, is_best) in [
            ("version 1 and 2", new(1, until), Some(false)),
            ("version 2 only", new(2, until).without_v1(), Some(false)),
            ("with the public key", new(3, until).with_public_key(), Some(false)),
            ("with metadata", new(4, until).with_metadata("_note", "hello"), Some(false)),
            ("to the nanosecond", new(5, precise), Some(false)),
            ("no ttl, no number", new(0, until).with_ttl(Duration::ZERO), Some(false)),
            ("in the year 9999", new(6, Timestamp::MAX.into()), Some(false)),
            (
                "great numbers",
                new(greatest.saturating_sub(1), Timestamp::MAX.into())
                    .with_ttl(Duration::from_nanos(greatest)),
                Some(false),
            ),
            ("the last of all", new(greatest, precise).without_v1(), Some(true)),
            ("expired", new(7, Timestamp::from_millis(1_000).into()), None),
        ] {
            print(&with(what), &name, &builder.sign(keypair, Timestamp::EPOCH)?, is_best);
        }
        print(
            &with("of another name"),
            &name,
            &new(8, until).sign(&other, Timestamp::EPOCH)?,
            None,
        );
    }
    Ok(())
}
