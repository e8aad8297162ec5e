//! Answers that take much work to verify.

use std::sync::mpsc;

use super::*;
use crate::{
    behaviour::Validation,
    client::{Publication, ReplicaState},
};

/// What another node shows of this write, and 200 good updates beside it, each with a P-256
/// signature: 66 ms of work.
fn dear(written: &[u8]) -> Result<Response, Failure> {
    let mut value = written.to_vec();
    for _ in 0..4 {
        let keypair = Keypair::generate_ecdsa();
        let mut signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
        for n in 0..50 {
            signer.merge(text(&n.to_string()), SystemClock.now(), 60 * S).unwrap();
        }
        value.extend(signer.record(SystemClock.now()).encode());
    }
    answer_with(value)
}

/// Publishes at the only server. Returns what was sent there, and the publication.
fn publish(node: &mut Node) -> (Vec<u8>, Publication) {
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    assert!(node.answer(is_get));
    let pending = node.behaviour.env.net.outbound.pending();
    let sent = pending.into_iter().find_map(|(_, _, request)| match request {
        Request::PutValue { record, .. } => Some(record.value.to_vec()),
        Request::GetValue { .. } => None,
    });
    assert!(node.answer(is_put));
    (sent.unwrap(), (&mut publish).now_or_never().unwrap().unwrap())
}

/// The state of a write at the only server, and whether its follow-up is over.
fn state(node: &Node, publication: &Publication) -> (ReplicaState, bool) {
    let progress = publication.progress();
    (progress.replicas[&node.servers[0]], progress.is_over)
}

#[test]
fn the_answer_to_a_follow_up_is_verified_within_a_limit_of_work() {
    let mut node = Node::new(1);
    let (sent, publication) = publish(&mut node);
    node.pass(200 * MS);
    let signatures = node.behaviour.store_mut().signatures();
    let before = signatures.counts();
    assert!(node.end(is_get, dear(&sent)).is_some());
    let after = signatures.counts();
    let verified = after.verified - before.verified;
    println!("{verified} of 200 P-256 signatures of an answer to a follow-up are verified");
    assert!((100..=122).contains(&verified) && after.unread > before.unread, "{after:?}");
    assert_eq!(state(&node, &publication), (ReplicaState::Shown, true));
}

/// A node that validates off the task, and the worker, which does nothing until it is polled.
fn off_task(servers: usize) -> (Node, BoxFuture<'static, ()>) {
    let (to, worker) = mpsc::channel();
    let config = BehaviourConfig::default().with_validation(Validation::OffTask);
    let registry = Registry::default();
    let executor: Executor = Box::new(move |work| to.send(work).unwrap());
    let node = Node::build(registry, SystemClock, servers, config, Some(executor));
    (node, worker.recv().unwrap())
}

#[test]
fn the_answer_to_a_follow_up_is_verified_off_the_task() {
    let (mut node, mut worker) = off_task(1);
    let (sent, publication) = publish(&mut node);
    node.pass(200 * MS);
    let signatures = node.behaviour.store_mut().signatures();
    let before = signatures.counts();
    assert!(node.end(is_get, dear(&sent)).is_some());
    assert_eq!(signatures.counts(), before, "nothing on the task");
    assert_eq!(state(&node, &publication), (ReplicaState::Acknowledged, false));
    assert!((&mut worker).now_or_never().is_none());
    node.poll();
    assert!(signatures.counts().unread > before.unread);
    assert_eq!(state(&node, &publication), (ReplicaState::Shown, true));
}

#[test]
fn where_the_worker_has_ended_a_follow_up_ends_too() {
    let (mut node, worker) = off_task(1);
    let (sent, publication) = publish(&mut node);
    node.pass(200 * MS);
    assert!(node.end(is_get, answer_with(sent)).is_some());
    drop(worker);
    node.poll();
    assert_eq!(state(&node, &publication), (ReplicaState::Acknowledged, true));
}
