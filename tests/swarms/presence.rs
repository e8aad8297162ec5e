//! Presence between real swarms over TCP.

use libp2p_smart_record::{Registry, presence::PresenceValidator, store::StoreConfig};

use smart_record_testing::{
    ManualClock,
    presence::{Draft, id, key, node, now, records},
};

use crate::nodes::{Node, connect, start_at, within};

async fn swarm() -> Node {
    let clock = ManualClock::at(now());
    let registry = Registry::default().with("presence", PresenceValidator::default()).unwrap();
    start_at(clock, registry, StoreConfig::default(), |_| {}).await
}

#[tokio::test]
async fn a_client_at_two_nodes_is_found_at_both() {
    let (a, b) = (swarm().await, swarm().await);
    connect(&a, &b).await;
    within(async {
        // Each node puts one announcement, which also goes to the other.
        let (one, two) = (Draft::at(1), Draft::at(2));
        a.put(&key(), one.encode()).await.unwrap();
        b.put(&key(), two.encode()).await.unwrap();

        let both = records(&[one, two]);
        for (reader, other) in [(&a, &b), (&b, &a)] {
            let found = reader.lookup(&key()).await.unwrap();
            let from_other = found.iter().find(|(peer, _)| *peer == Some(other.peer()));
            assert_eq!(from_other.map(|(_, value)| value), Some(&both), "{found:?}");
        }
        let found = a.lookup(&key()).await.unwrap();
        let rules = PresenceValidator::default();
        let mut joined = rules.read(&key(), &found[0].1, now()).unwrap();
        for (_, value) in &found {
            joined.join(rules.read(&key(), value, now()).unwrap()).unwrap();
        }
        let mut nodes = [id(&node(1)), id(&node(2))];
        nodes.sort_unstable();
        let seen: Vec<_> = joined.view(now()).map(|announcement| announcement.node()).collect();
        assert_eq!(seen, nodes);
    })
    .await;
}

#[tokio::test]
async fn a_withdrawal_reaches_the_other_side_and_stays() {
    let (a, b) = (swarm().await, swarm().await);
    connect(&a, &b).await;
    within(async {
        let (one, two) = (Draft::at(1), Draft::at(2));
        a.put(&key(), records(&[one.clone(), two.clone()])).await.unwrap();
        let gone = Draft::withdrawn(1).made(1);
        b.put(&key(), gone.encode()).await.unwrap();
        // A replay is acknowledged and not stored.
        a.put_to(b.peer(), &key(), one.encode()).await.unwrap();
        let found = a.lookup(&key()).await.unwrap();
        let rest = records(&[gone, two]);
        assert!(!found.is_empty() && found.iter().all(|(_, value)| *value == rest), "{found:?}");
    })
    .await;
}
