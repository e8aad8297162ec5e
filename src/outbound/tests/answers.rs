//! Answers of peers, and failures to answer.

use std::sync::{Arc, Mutex};

use futures::AsyncWriteExt;

use super::*;
use crate::outbound::{InvalidAnswer, handler::MAX_STREAMS};

/// A peer that answers each request with these bytes and closes the stream.
async fn says(peers: &mut Peers, bytes: Vec<u8>) -> Peer {
    peers
        .scripted(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                read_request(&mut stream).await;
                // The client stops reading an answer that is too long.
                if stream.write_all(&bytes).await.is_ok() {
                    let _ = stream.close().await;
                }
            }
        })
        .await
}

#[tokio::test]
async fn an_invalid_answer_fails_with_its_reason() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let other_type = proto::Message { r#type: proto::Type::FindNode.into(), ..found("key") };
    let crowd =
        proto::Message { closer_peers: vec![proto::Peer::default(); 5_000], ..found("key") };
    let mut cut_off = packet(&found("key"));
    cut_off.pop();
    let invalid = |why| Some(Failure::Invalid(why));
    for (bytes, expected) in [
        (packet(&found("key")), None),
        (packet(&found("other")), invalid(InvalidAnswer::OtherKey)),
        (packet(&other_type), invalid(InvalidAnswer::OtherType(4))),
        (packet(&crowd), invalid(InvalidAnswer::TooManyFields)),
        // Only the length is sent.
        (vec![0x81, 0x80, 0x10], invalid(InvalidAnswer::TooLong)),
        (vec![0xff; 400_000], invalid(InvalidAnswer::TooLong)),
        (cut_off, Some(Failure::Closed)),
        (Vec::new(), Some(Failure::Closed)),
    ] {
        let shown = format!("{:?}", bytes.get(..20.min(bytes.len())));
        let peer = says(&mut peers, bytes).await;
        assert_eq!(ask(&mut client, &peer, get("key")).await.err(), expected, "{shown}");
    }
    let garbage = says(&mut peers, b"\x07garbage".to_vec()).await;
    let failure = ask(&mut client, &garbage, get("key")).await.unwrap_err();
    assert!(matches!(failure, Failure::Invalid(InvalidAnswer::Malformed(_))), "{failure:?}");
    assert_eq!(lookup::Failure::from(&failure), lookup::Failure::Invalid);
}

#[tokio::test]
async fn an_answer_of_256_kib_is_read() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let mut answer = found("key");
    let room = 256 * 1_024 - answer.encoded_len();
    // The lengths take three bytes instead of one, and the value one tag byte.
    answer.record.as_mut().unwrap().value = vec![7; room + 5 - 4].into();
    assert_eq!(answer.encoded_len(), 256 * 1_024);
    let peer = says(&mut peers, packet(&answer)).await;
    let value = ask(&mut client, &peer, get("key")).await.unwrap().record.unwrap().value;
    assert_eq!(value, answer.record.unwrap().value);
}

#[tokio::test]
async fn a_slow_or_frozen_peer_delays_no_other_peer_and_its_request_can_be_cancelled() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let (frozen, mut silent) = peers.holding().await;
    let (dripping, mut dripped_at) = peers.holding().await;
    let live = peers.server().await;
    let ids = [&frozen, &dripping].map(|peer| send(client.behaviour_mut(), peer, get("key")));
    let mut held = Vec::new();
    while held.len() < 2 {
        // Requests to other peers are answered meanwhile.
        assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
        held.extend(silent.try_recv());
        if let Ok(mut stream) = dripped_at.try_recv() {
            // A part of an answer.
            stream.write_all(&[0x80, 0x80, 0x01]).await.unwrap();
            stream.write_all(&[0; 10_000]).await.unwrap();
            stream.flush().await.unwrap();
            held.push(stream);
        }
    }
    ids.into_iter().for_each(|id| client.behaviour_mut().cancel(id));
    assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
    let client = tokio::spawn(async move {
        loop {
            let event = client.select_next_some().await;
            assert!(!matches!(event, SwarmEvent::Behaviour(_)), "{event:?}");
        }
    });
    // Writing to a cancelled stream fails.
    for mut stream in held {
        within(async {
            while stream.write_all(&[0]).await.is_ok() && stream.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert!(!client.is_finished());
    client.abort();
}

#[tokio::test]
async fn requests_beyond_the_maximum_of_streams_wait() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let (frozen, mut streams) = peers.holding().await;
    let live = peers.server().await;
    let mut ids: Vec<_> =
        (0..MAX_STREAMS + 2).map(|_| send(client.behaviour_mut(), &frozen, get("key"))).collect();
    let mut held = Vec::new();
    while held.len() < MAX_STREAMS {
        assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
        held.extend(streams.try_recv());
    }
    for _ in 0..20 {
        assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
    }
    assert!(streams.try_recv().is_err(), "more streams than the maximum");
    // After one waiting request and one with a stream are cancelled, the last request gets a stream
    // and is answered.
    client.behaviour_mut().cancel(ids.remove(MAX_STREAMS));
    client.behaviour_mut().cancel(ids.remove(0));
    let mut last = loop {
        assert_eq!(ask(&mut client, &live, get("key")).await, Ok(Response::default()));
        if let Ok(stream) = streams.try_recv() {
            break stream;
        }
    };
    last.write_all(&packet(&found("key"))).await.unwrap();
    last.close().await.unwrap();
    let ended = next(&mut client).await;
    assert_eq!((Some(&ended.id), ended.peer), (ids.last(), frozen.id));
    assert!(ended.result.is_ok());
}

#[tokio::test]
async fn a_dropped_stream_fails_its_request_at_once() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let peer = peers.scripted(async |stream| drop(stream)).await;
    assert_eq!(ask(&mut client, &peer, get("key")).await, Err(Failure::Closed));
}

/// A rust-libp2p server accepts 32 streams on a connection and drops further ones.
#[tokio::test]
async fn many_requests_to_one_peer_are_all_answered() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let live = peers.server().await;
    for _ in 0..100 {
        send(client.behaviour_mut(), &live, get("key"));
    }
    for _ in 0..100 {
        assert_eq!(next(&mut client).await.result, Ok(Response::default()));
    }
}

#[tokio::test]
async fn requests_have_the_wire_form_of_kademlia() {
    let (mut peers, mut client) = (Peers::default(), client().await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let peer = peers
        .scripted(move |mut stream| {
            let told = told.clone();
            async move {
                let request = read_request(&mut stream).await;
                told.lock().unwrap().push(request);
            }
        })
        .await;
    for request in [get("key"), put("key", "value")] {
        assert_eq!(ask(&mut client, &peer, request).await, Err(Failure::Closed));
    }
    // The type, where 0 is omitted; the key; the record, which repeats the key.
    let expected: [&[u8]; 2] =
        [b"\x08\x01\x12\x03key", b"\x12\x03key\x1a\x0c\x0a\x03key\x12\x05value"];
    assert_eq!(*seen.lock().unwrap(), expected);
}
