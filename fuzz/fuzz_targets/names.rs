//! Untrusted text and keys: parsed values have one form and round-trip.

#![no_main]

use std::str;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use libp2p_core::Multiaddr;
use libp2p_kad as kad;
use libp2p_smart_record::{
    Kind, Limits, Path, RecordKey, ShardedKey, Timestamp,
    ipns::{Eol, IpnsName},
    presence::PresenceKey,
};
use libp2p_smart_record_fuzz::{author, documents::Document};
use smart_record_services::{connectivity, dialable};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    bits: u8,
    document: Document,
    parts: Vec<Part<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Word(u8),
    Peer(u8),
    Raw(&'a [u8]),
}

/// Words that the fuzzer would take long to find.
const WORDS: [&str; 20] = [
    "/",
    "*",
    "()",
    "a",
    "/presence/",
    "/sr/",
    "/ipns/",
    "/shard/",
    "16",
    "/p2p/",
    "/ip4/1.2.3.4",
    "/ip6/::1",
    "/tcp/4001",
    "/udp/4001",
    "/quic-v1",
    "/p2p-circuit",
    "2023-11-14T22:13:20",
    ".5",
    "Z",
    "+01:00",
];

fuzz_target!(|input: Input| {
    let bytes = input.parts.iter().map(|part| match part {
        Part::Word(at) => WORDS[usize::from(*at) % WORDS.len()].as_bytes().to_vec(),
        Part::Peer(number) => author(*number).peer_id().to_string().into_bytes(),
        Part::Raw(bytes) => bytes.to_vec(),
    });
    let bytes = bytes.collect::<Vec<_>>().concat();
    check_key(&RecordKey::new(bytes.clone()), input.bits);
    let Ok(text) = str::from_utf8(&bytes) else {
        return;
    };
    if let Ok(path) = text.parse::<Path>() {
        assert_eq!(path.to_string(), text);
        assert!(input.document.0.select(&path).count() < 1 << 16);
    }
    if let Ok(name) = text.parse::<IpnsName>() {
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(IpnsName::try_from(&name.key()), Ok(name));
    }
    if let Ok(eol) = text.parse::<Eol>() {
        assert_eq!(eol.to_string().parse(), Ok(eol));
        let (at, nanos) =
            (eol.expires_at(), |at: Timestamp| i128::from(at.as_millis()) * 1_000_000);
        assert!(nanos(at) >= eol.unix_nanos());
        assert!(at == Timestamp::EPOCH || nanos(at) - 1_000_000 < eol.unix_nanos());
    }
    if let Ok(address) = text.parse::<Multiaddr>() {
        for request in [connectivity(&address), dialable(&address)] {
            let node = request.named.get("address").expect("an address");
            let Kind::String(text) = &node.kind else { panic!("{node:?}") };
            assert_eq!(text.parse().ok().as_ref(), Some(&address));
        }
    }
});

fn check_key(key: &RecordKey, bits: u8) {
    assert_eq!(RecordKey::new(kad::RecordKey::new(key).to_vec()), *key);
    if let Some(namespace) = key.namespace() {
        assert_eq!(RecordKey::from_parts(namespace, key.path()).as_ref(), Ok(key));
    }
    if let Ok(presence) = PresenceKey::parse(key) {
        assert_eq!(presence.as_str().as_bytes(), key.as_bytes());
        let path = key.path().split(|byte| *byte == b'/').skip(1).collect::<Vec<_>>().join(&b'/');
        let path = str::from_utf8(&path).expect("text");
        let again = PresenceKey::with_path(presence.client(), path);
        assert_eq!(again == presence, key.namespace() == Some(PresenceKey::NAMESPACE));
    }
    if let Ok(name) = IpnsName::try_from(key) {
        assert_eq!(name.key(), *key);
    }
    if let Ok(sharded) = ShardedKey::new(key.clone(), bits % 9, &Limits::default()) {
        let of = sharded.key_for(&author(bits).peer_id());
        assert!(sharded.contains(&of) && !sharded.contains(key));
        assert_eq!(sharded.keys().filter(|one| *one == of).count(), 1);
    }
}
