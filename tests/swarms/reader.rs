//! Reading with Kademlia's events alone, over libp2p's own store: without client, driver and store
//! of this crate.

use futures::StreamExt;
use libp2p::{Swarm, identity::Keypair, kad, kad::store::RecordStore, swarm::SwarmEvent};
use libp2p_smart_record::{
    AcceptAny, Clock, Registry, SystemClock,
    query::{ReadStep, Reading, RecordReader},
};
use smart_record_testing_swarms::listening;

use crate::dht::{KEY, board, give};
use crate::nodes::{Node, PROTOCOL, start, within};

type Kad = kad::Behaviour<kad::store::MemoryStore>;

/// A swarm with these nodes in its routing table.
async fn swarm(nodes: &[Node]) -> Swarm<Kad> {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let (store, config) = (kad::store::MemoryStore::new(peer), kad::Config::new(PROTOCOL));
    let (mut swarm, _) = listening(keypair, Kad::with_config(peer, store, config)).await;
    for node in nodes {
        swarm.behaviour_mut().add_address(&node.peer(), node.address());
    }
    swarm
}

fn ask(swarm: &mut Swarm<Kad>, key: &str) -> kad::QueryId {
    swarm.behaviour_mut().get_record(kad::RecordKey::new(&key))
}

/// Reads to the end. Returns the reading and the number of lookups.
async fn read(swarm: &mut Swarm<Kad>, mut reader: RecordReader, key: &str) -> (Reading, usize) {
    let (mut query, mut lookups) = (ask(swarm, key), 1);
    loop {
        let event = swarm.select_next_some().await;
        let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, step, .. }) =
            event
        else {
            continue;
        };
        let (true, kad::QueryResult::GetRecord(result)) = (id == query, result) else { continue };
        match reader.on_progress(&result, step.last, SystemClock.now()) {
            ReadStep::LookUpAgain => (query, lookups) = (ask(swarm, key), lookups + 1),
            ReadStep::Finish => return (reader.into_reading(SystemClock.now()), lookups),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_board_is_read_whole_and_reported_complete() {
    within(async {
        let (nodes, board) = ([start().await, start().await], board(60, 600));
        for node in &nodes {
            give(node, KEY, board.encode()).await;
        }
        let mut swarm = swarm(&nodes).await;
        let reader = RecordReader::new(&Registry::default(), KEY).unwrap();
        let (reading, lookups) = read(&mut swarm, reader, KEY).await;
        assert_eq!(reading.snapshot.record(), Some(&board));
        assert!(reading.is_complete() && lookups > 1, "{lookups}");
        assert_eq!(reading.holders.len(), 2);

        let reader = RecordReader::new(&Registry::default(), KEY).unwrap().with_rounds(1);
        let (reading, lookups) = read(&mut swarm, reader, KEY).await;
        assert!(!reading.is_complete() && lookups == 1);
        assert!(reading.snapshot.record().unwrap().spaces().len() < 60);
    })
    .await;
}

#[tokio::test]
async fn the_local_copy_is_part_of_the_reading_and_an_early_end_is_not_complete() {
    within(async {
        let nodes = [start().await];
        let mut swarm = swarm(&nodes).await;
        let record = kad::Record::new(kad::RecordKey::new(&"foo"), b"bar".to_vec());
        swarm.behaviour_mut().store_mut().put(record).unwrap();
        let plain = Registry::default().with_fallback(AcceptAny::default());
        let reader = || RecordReader::new(&plain, "foo").unwrap();
        let (reading, _) = read(&mut swarm, reader(), "foo").await;
        assert_eq!(reading.snapshot.value().map(|value| &value[..]), Some(&b"bar"[..]));
        assert!(reading.holders.is_empty() && reading.is_complete());
        assert_eq!(reading.empty, [nodes[0].peer()]);
        assert!(!reader().into_reading(SystemClock.now()).is_complete());
        assert!(RecordReader::new(&Registry::default(), "foo").is_err());
    })
    .await;
}
