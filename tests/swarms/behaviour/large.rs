//! A large board on behaviours that agree about it.

use libp2p_smart_record::{
    Clock, Registry, SmartRecord, SpaceSigner, SystemClock,
    client::ClientError,
    store::{Origin, ValidatedRecord},
};

use crate::{
    nodes::within,
    peer::{MINUTE, Peer, Setup, key, mesh, quiet, says},
};

/// Number of replicas of a record, and of peers: some of them are no replicas.
const REPLICAS: usize = 20;
const PEERS: usize = 23;

/// A thousand writers, about 300 KB.
fn thousand() -> SmartRecord {
    let mut board = SmartRecord::new(key());
    for _ in 0..1_000 {
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let mut signer = SpaceSigner::new(key(), keypair, Default::default());
        signer.merge(says(&"x".repeat(145)), SystemClock.now(), 10 * MINUTE).unwrap();
        board.join(signer.record(SystemClock.now())).unwrap();
    }
    let bytes = board.encode().len();
    assert!((290_000..310_000).contains(&bytes), "{bytes} bytes");
    board
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_of_300_kb_is_read_whole_and_complete() {
    within(async {
        let board = thousand();
        let peers = futures::future::join_all((0..PEERS).map(|_| Peer::start())).await;
        mesh(&peers.iter().collect::<Vec<_>>()).await;
        let value = board.encode();
        let checked = ValidatedRecord::new(&Registry::default(), key(), &value, SystemClock.now());
        let mut by_distance: Vec<_> = peers.iter().collect();
        crate::boards::by_distance(&mut by_distance, &key(), |peer| peer.id);
        for peer in &by_distance[..REPLICAS] {
            let checked = checked.clone();
            peer.smart(move |smart| smart.store_mut().insert(checked, Origin::Remote).unwrap())
                .await;
        }
        let config = quiet().with_read_deadline(MINUTE);
        for _ in 0..3 {
            let reader = Setup::with_config(config.clone()).start().await;
            for peer in &peers {
                reader.add(peer.id, peer.address.clone()).await;
            }
            // On a slow machine, more than half of the holders may be silent.
            let reading = loop {
                match reader.client.get(key()).await {
                    Ok(reading) if reading.is_complete() => break reading,
                    Ok(_) | Err(ClientError::TimedOut) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!((reading.snapshot.record(), reading.missing()), (Some(&board), 0.0));
            // Each holder is asked once in each round. An answer that comes too late costs another;
            // `tests/attacks/reads` has the bound without that.
            let (rounds, late) =
                reader.smart(|smart| (smart.counters().lookups, smart.counters().silent)).await;
            println!("{rounds} requests to each of {REPLICAS} replicas, {late} late");
        }
    })
    .await;
}
