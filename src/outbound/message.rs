//! Kademlia's requests and answers, and their wire form.
//!
//! A packet is the length of a message as an unsigned varint, followed by the message in protobuf.
//!
//! **Invariants.** Pure. An answer is refused unless it has the type of its request and is about
//! its key. The cost of an answer is bounded before it is decoded: [`MAX_ANSWER_BYTES`],
//! [`MAX_FIELDS`]. A decoded answer has at most [`MAX_CLOSER`] peers with
//! [`MAX_ADDRESSES`](crate::addresses::MAX_ADDRESSES) addresses each, and does not keep the packet
//! alive.
//!
//! **Spec.** [Kademlia
//! DHT](https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages).

use std::time::Duration;

use bytes::Bytes;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use smart_record_core::ProtobufError;

use crate::{
    addresses::{best, without_peer},
    proto::kademlia as proto,
};

/// Maximum size of an answer. A reply to a GET holds a record and the addresses of 20 peers, some
/// of which have dozens. Other implementations send larger answers than they accept.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 * 1_024;
/// Maximum number of protobuf fields of an answer, including those of its peers: 20 peers with 100
/// addresses each. It bounds the memory of a decoded answer, because an empty field takes two bytes
/// in a packet and up to 56 when decoded.
const MAX_FIELDS: usize = 2_048;
/// Maximum number of closer peers taken from an answer. Kademlia's answers have 20.
pub(crate) const MAX_CLOSER: usize = 64;
/// Field number of the closer peers in a message.
const CLOSER_PEERS: u32 = 8;

/// A request to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Asks for the record under a key, and for the peers closest to it.
    GetValue { key: Bytes },
    /// Asks to keep a record under a key.
    PutValue { key: Bytes, record: Record },
}

/// A value with its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) value: Bytes,
    /// The claimed publisher. Not authenticated.
    pub(crate) publisher: Option<PeerId>,
    /// Remaining lifetime, in whole seconds and at least one; `None`: no expiry.
    pub(crate) ttl: Option<Duration>,
}

/// A peer that an answer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closer {
    pub(crate) peer: PeerId,
    /// Its addresses without the peer id, best first.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The answer to a [`Request`]. Only its form has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// Answer to a GET: the record, if the peer has one.
    pub(crate) record: Option<Record>,
    /// Answer to a GET: the closest peers that the peer knows, without the local one.
    pub(crate) closer: Vec<Closer>,
}

/// Why an answer is invalid. The peer is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAnswer {
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("the answer has more than {MAX_FIELDS} fields")]
    TooManyFields,
    #[error("the answer is not a Kademlia message")]
    Malformed(#[source] ProtobufError),
    #[error("the answer has type {0}, not that of the request")]
    OtherType(i32),
    #[error("the answer is about another key")]
    OtherKey,
    #[error("the acknowledged value is not the one that was sent")]
    OtherValue,
}

impl From<DecodeError> for InvalidAnswer {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(ProtobufError::new(error))
    }
}

impl Request {
    /// The key of the request.
    pub(crate) const fn key(&self) -> &Bytes {
        match self {
            Self::GetValue { key } | Self::PutValue { key, .. } => key,
        }
    }

    const fn of_type(&self) -> proto::Type {
        match self {
            Self::GetValue { .. } => proto::Type::GetValue,
            Self::PutValue { .. } => proto::Type::PutValue,
        }
    }

    /// Encodes the packet to send.
    pub(super) fn encode(&self) -> Vec<u8> {
        let record = match self {
            Self::PutValue { key, record } => Some(proto::Record {
                key: key.clone(),
                value: record.value.clone(),
                publisher: record.publisher.map(PeerId::to_bytes).unwrap_or_default().into(),
                // 0 means no expiry.
                ttl: record
                    .ttl
                    .map_or(0, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1)),
            }),
            Self::GetValue { .. } => None,
        };
        let message = proto::Message {
            r#type: self.of_type().into(),
            key: self.key().clone(),
            record,
            closer_peers: Vec::new(),
        };
        message.encode_length_delimited_to_vec()
    }
}

impl Response {
    /// Decodes the message with which a peer connected at `remote` has answered the request.
    pub(super) fn read(
        message: Bytes,
        request: &Request,
        local: &PeerId,
        remote: &Multiaddr,
    ) -> Result<Self, InvalidAnswer> {
        if count_fields(&message)? > MAX_FIELDS {
            return Err(InvalidAnswer::TooManyFields);
        }
        let message = proto::Message::decode(message)?;
        if message.r#type != i32::from(request.of_type()) {
            return Err(InvalidAnswer::OtherType(message.r#type));
        }
        // rust-libp2p omits the key except in acknowledgements.
        if !message.key.is_empty() && message.key != request.key() {
            return Err(InvalidAnswer::OtherKey);
        }
        if message.record.as_ref().is_some_and(|record| record.key != request.key()) {
            return Err(InvalidAnswer::OtherKey);
        }
        let record = match (request, message.record) {
            (Request::PutValue { record: sent, .. }, acknowledged) => {
                if acknowledged.is_none_or(|acknowledged| acknowledged.value != sent.value) {
                    return Err(InvalidAnswer::OtherValue);
                }
                None
            }
            (_, record) => record.map(Record::from),
        };
        let closer =
            message.closer_peers.into_iter().filter_map(|peer| Closer::read(&peer, remote));
        let closer = closer.filter(|closer| closer.peer != *local).take(MAX_CLOSER).collect();
        Ok(Self { record, closer })
    }
}

impl From<proto::Record> for Record {
    fn from(record: proto::Record) -> Self {
        Self {
            // Copied, because a slice would keep the packet alive.
            value: Bytes::copy_from_slice(&record.value),
            publisher: PeerId::from_bytes(&record.publisher).ok(),
            ttl: (record.ttl > 0).then(|| Duration::from_secs(record.ttl.into())),
        }
    }
}

impl Closer {
    /// Decodes a peer and its best addresses; `None` without a valid id.
    fn read(peer: &proto::Peer, remote: &Multiaddr) -> Option<Self> {
        let id = PeerId::from_bytes(&peer.id).ok()?;
        let addresses = peer.addrs.iter().filter_map(|address| {
            let address = Multiaddr::try_from(address.to_vec()).ok()?;
            let is_of_another =
                matches!(address.iter().last(), Some(Protocol::P2p(other)) if other != id);
            (!is_of_another).then(|| without_peer(&address))
        });
        Some(Self { peer: id, addresses: best(addresses, Some(remote)) })
    }
}

/// Counts the fields of a message, including those of its closer peers.
fn count_fields(mut message: &[u8]) -> Result<usize, DecodeError> {
    let mut count = 0_usize;
    while !message.is_empty() {
        let (tag, field, wire_type) = next_field(&mut message)?;
        count = count.saturating_add(1);
        if tag == CLOSER_PEERS && wire_type == WireType::LengthDelimited {
            let mut peer = field;
            decode_varint(&mut peer)?;
            while !peer.is_empty() {
                next_field(&mut peer)?;
                count = count.saturating_add(1);
            }
        }
    }
    Ok(count)
}

/// Splits the first field off a message.
fn next_field<'a>(message: &mut &'a [u8]) -> Result<(u32, &'a [u8], WireType), DecodeError> {
    let (tag, wire_type) = decode_key(message)?;
    let field = *message;
    skip_field(wire_type, tag, message, DecodeContext::default())?;
    let len = field.len().saturating_sub(message.len());
    Ok((tag, field.get(..len).unwrap_or_default(), wire_type))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smart_record_testing::vectors;

    use super::*;
    use crate::addresses::{MAX_ADDRESSES, MAX_BYTES};

    fn remote() -> Multiaddr {
        "/ip4/1.2.3.4/tcp/1".parse().unwrap()
    }

    fn read(message: &proto::Message, request: &Request) -> Result<Response, InvalidAnswer> {
        Response::read(message.encode_to_vec().into(), request, &PeerId::random(), &remote())
    }

    fn get() -> Request {
        Request::GetValue { key: Bytes::from_static(b"/sr/key") }
    }

    fn message(request: &Request) -> proto::Message {
        proto::Message { r#type: request.of_type().into(), ..proto::Message::default() }
    }

    fn peer(id: PeerId, addresses: &[&str]) -> proto::Peer {
        let binary = |it: &&str| it.parse::<Multiaddr>().unwrap().to_vec().into();
        proto::Peer { id: id.to_bytes().into(), addrs: addresses.iter().map(binary).collect() }
    }

    #[test]
    fn a_lifetime_below_a_second_is_not_sent_as_no_expiry() {
        let ttl = |ttl| {
            let record = Record { value: Bytes::from_static(b"value"), publisher: None, ttl };
            let request = Request::PutValue { key: Bytes::from_static(b"key"), record };
            let packet = Bytes::from(request.encode());
            proto::Message::decode_length_delimited(packet).unwrap().record.unwrap().ttl
        };
        assert_eq!(ttl(None), 0);
        assert_eq!(ttl(Some(Duration::from_millis(1))), 1);
        assert_eq!(ttl(Some(Duration::from_millis(2_999))), 2);
        assert_eq!(ttl(Some(Duration::MAX)), u32::MAX);
    }

    #[test]
    fn an_answer_must_have_the_type_and_key_of_its_request() {
        let request = get();
        let about = |key: &'static [u8]| proto::Record {
            key: Bytes::from_static(key),
            value: Bytes::from_static(b"value"),
            ..proto::Record::default()
        };
        let mut answer = message(&request);
        assert_eq!(read(&answer, &request), Ok(Response::default()));
        answer.record = Some(about(b"/sr/key"));
        assert_eq!(read(&answer, &request).unwrap().record.unwrap().value, b"value"[..]);
        answer.record = Some(about(b"/sr/other"));
        assert_eq!(read(&answer, &request), Err(InvalidAnswer::OtherKey));
        answer.record = None;
        answer.key = Bytes::from_static(b"/sr/other");
        assert_eq!(read(&answer, &request), Err(InvalidAnswer::OtherKey));
        answer.key = request.key().clone();
        assert_eq!(read(&answer, &request), Ok(Response::default()));
        for of_type in [0, 2, 3, 4, 5, 99, -1] {
            answer.r#type = of_type;
            assert_eq!(read(&answer, &request), Err(InvalidAnswer::OtherType(of_type)));
        }

        let record = Record { value: Bytes::from_static(b"value"), publisher: None, ttl: None };
        let put = Request::PutValue { key: request.key().clone(), record };
        let mut answer = message(&put);
        assert_eq!(read(&answer, &put), Err(InvalidAnswer::OtherValue), "no value at all");
        answer.record = Some(about(b"/sr/key"));
        assert_eq!(read(&answer, &put), Ok(Response::default()));
        answer.record = Some(about(b"/sr/other"));
        assert_eq!(read(&answer, &put), Err(InvalidAnswer::OtherKey));
        answer.record = Some(proto::Record { value: Bytes::new(), ..about(b"/sr/key") });
        assert_eq!(read(&answer, &put), Err(InvalidAnswer::OtherValue));
    }

    #[test]
    fn answers_are_read_as_the_vectors_say() {
        for case in vectors::read(&vectors::path("replica/answers.json")) {
            let key = vectors::bytes(&case, "key").into();
            let request = match case["put"].is_string() {
                true => {
                    let value = vectors::bytes(&case, "put").into();
                    Request::PutValue { key, record: Record { value, publisher: None, ttl: None } }
                }
                false => Request::GetValue { key },
            };
            let message = vectors::bytes(&case, "message").into();
            let answer = Response::read(message, &request, &PeerId::random(), &remote());
            assert_eq!(answer.is_err(), case["is_refused"] == true, "{case}: {answer:?}");
            let record = answer.ok().and_then(|answer| answer.record);
            let expected = case["record"].is_string().then(|| Record {
                value: vectors::bytes(&case, "record").into(),
                publisher: None,
                ttl: case["ttl"].as_u64().map(Duration::from_secs),
            });
            // The publisher is not a part of the vectors: it says nothing.
            let record = record.map(|record| Record { publisher: None, ..record });
            assert_eq!(record, expected, "{case}");
        }
    }

    #[test]
    fn only_closer_peers_with_valid_ids_and_their_usable_addresses_are_kept() {
        let (a, b, local) = (PeerId::random(), PeerId::random(), PeerId::random());
        let request = Request::GetValue { key: Bytes::from_static(b"key") };
        let mut answer = message(&request);
        let of_another = format!("/ip4/5.6.7.8/tcp/2/p2p/{b}");
        let own = format!("/ip4/5.6.7.8/tcp/3/p2p/{a}");
        let mut mixed = peer(a, &["/ip4/127.0.0.1/tcp/1", &of_another, &own, "/ip4/8.8.8.8"]);
        mixed.addrs.push(Bytes::from_static(&[0xff; 8]));
        let many: Vec<_> = (1..=20).map(|port| format!("/ip4/9.9.9.9/tcp/{port}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let nobody = proto::Peer { id: Bytes::from_static(b"nobody"), ..peer(a, &[]) };
        answer.closer_peers = vec![mixed, nobody, peer(local, &[&own]), peer(b, &many)];
        let bytes = Bytes::from(answer.encode_to_vec());
        let closer = Response::read(bytes, &request, &local, &remote()).unwrap().closer;
        let shown: Vec<_> = closer.iter().map(|it| (it.peer, it.addresses.len())).collect();
        assert_eq!(shown, [(a, 1), (b, 3)]);
        assert_eq!(closer[0].addresses[0].to_string(), "/ip4/5.6.7.8/tcp/3");

        answer.closer_peers = (0..100).map(|_| peer(PeerId::random(), &[])).collect();
        assert_eq!(read(&answer, &request).unwrap().closer.len(), MAX_CLOSER);
    }

    #[test]
    fn the_cost_of_an_answer_is_bounded() {
        let request = get();
        let mut answer = message(&request);
        let counted = |answer: &proto::Message| count_fields(&answer.encode_to_vec()).unwrap();
        answer.closer_peers = vec![proto::Peer::default(); MAX_FIELDS - 1];
        assert_eq!(counted(&answer), MAX_FIELDS);
        assert_eq!(read(&answer, &request), Ok(Response::default()));
        answer.closer_peers.push(proto::Peer::default());
        assert_eq!(read(&answer, &request), Err(InvalidAnswer::TooManyFields));
        let addrs = vec![Bytes::new(); MAX_FIELDS];
        answer.closer_peers = vec![proto::Peer { addrs, ..proto::Peer::default() }];
        assert_eq!(read(&answer, &request), Err(InvalidAnswer::TooManyFields));
        // The packet, the value, vectors that have just doubled their capacity, and the decoded
        // content: 64 answers take less than 50 MiB.
        let closer = size_of::<Closer>() + MAX_ADDRESSES * 64 + MAX_BYTES;
        let decoded = 2 * MAX_FIELDS * size_of::<proto::Peer>() + MAX_CLOSER * closer;
        assert!(64 * (2 * MAX_ANSWER_BYTES + decoded) < 50 * 1_024 * 1_024);
        // Nested peers are not followed.
        let mut nested = Vec::new();
        for _ in 0..10_000 {
            let mut outer = vec![0x42];
            prost::encode_length_delimiter(nested.len(), &mut outer).unwrap();
            outer.append(&mut nested);
            nested = outer;
        }
        assert!(count_fields(&nested).is_ok_and(|count| count == 2));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Response::read(bytes.into(), &get(), &PeerId::random(), &remote());
        }

        #[test]
        fn the_field_count_is_that_of_the_encoded_message(peers in prop::collection::vec(0_usize..5, 0..20)) {
            let request = get();
            let mut answer = message(&request);
            for addresses in &peers {
                answer.closer_peers.push(peer(PeerId::random(), &vec!["/ip4/1.1.1.1/tcp/1"; *addresses]));
            }
            let fields: usize = peers.iter().map(|addresses| addresses + 2).sum();
            prop_assert_eq!(count_fields(&answer.encode_to_vec()), Ok(fields + 1));
        }
    }
}
