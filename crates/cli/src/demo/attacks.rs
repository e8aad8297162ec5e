//! The attacks of the demo: a peer sends values that must be refused to one replica, over one
//! connection.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, Dict, Extensions, Fault, Limits, RecordKey, Seq, SmartRecord, SpaceSigner, SystemClock,
    Timestamp, Update, UpdateKind, Writer,
    store::{Events, Origin, StoreEvent},
};
use smart_record_host::Host;

use super::{Demo, NAME, nodes, report::DemoReport};

struct Attack {
    name: &'static str,
    value: Vec<u8>,
    /// The fault that the refusal has to name.
    fault: Fault,
}

/// Sends every attack to the replica closest to the key, and counts those with any effect.
pub async fn run(demo: &mut Demo, report: &DemoReport) -> Result<()> {
    let (mut sent, mut accepted) = (0, 0);
    let outcome = send_all(demo, report, &mut sent, &mut accepted).await;
    (demo.summary.attacks_sent, demo.summary.attacks_accepted) = (sent, accepted);
    outcome?;
    ensure!(accepted == 0, "{accepted} of {sent} attacks were accepted");
    Ok(())
}

async fn send_all(
    demo: &Demo,
    report: &DemoReport,
    sent: &mut usize,
    accepted: &mut usize,
) -> Result<()> {
    let victim = demo.replicas().next().context("no node is left")?;
    let mut events = nodes::events(victim).await?;
    let keypair = Keypair::generate_ed25519();
    let attacker = nodes::start(keypair.clone(), Some(&nodes::address(victim).await?)).await?;
    // The connection exists once a request was answered.
    attacker.client().get(demo.key.clone()).await?;
    let connections = attacker.connections(victim.peer_id()).await?;
    ensure!(connections.len() == 1, "the attacker has {} connections", connections.len());
    for attack in attacks(demo, &keypair).await? {
        let step = report.step(format!("Attack: {}", attack.name));
        let before = nodes::stored(victim, &demo.key).await?;
        nodes::send(&attacker, victim.peer_id(), &demo.key, attack.value).await?;
        *sent += 1;
        let refused = nodes::until(&mut events, refusal).await;
        if nodes::stored(victim, &demo.key).await? != before || refused.is_none() {
            *accepted += 1;
            step.done(format!("ACCEPTED: {}", attack.name));
        } else if let Some((fault, reason)) = refused {
            ensure!(
                fault == attack.fault,
                "{}: refused as {fault} instead of {}: {reason}",
                attack.name,
                attack.fault
            );
            step.done(format!("refused: {}: {reason}", attack.name));
        }
    }
    let step = report.step("The attacker is still served".to_owned());
    serve(victim, &mut events, &attacker, &keypair).await?;
    ensure!(
        attacker.connections(victim.peer_id()).await? == connections,
        "the attacker had to connect again"
    );
    step.done(
        "after that, a PUT and a GET of the same peer succeed, over the one connection".to_owned(),
    );
    Ok(())
}

/// The refusal of a remote write.
pub fn refusal(event: StoreEvent) -> Option<(Fault, String)> {
    match event {
        StoreEvent::Refused { reason, origin: Origin::Remote, .. } => {
            Some((reason.fault(), reason.to_string()))
        }
        _ => None,
    }
}

async fn attacks(demo: &Demo, keypair: &Keypair) -> Result<Vec<Attack>> {
    let now = SystemClock.now();
    let hour = Duration::from_secs(3_600);
    let key = &demo.key;
    let own = Writer::from(&keypair.public());
    let honest = demo.space_of(0).await?;
    let (writer, _) = honest.spaces().next().context("no space")?;
    let update = |issued: Timestamp, ttl: Duration, document: Dict| Update {
        seq: Seq::next(None, issued),
        expires_at: issued.saturating_add(ttl),
        retain_until: issued.saturating_add(ttl),
        kind: UpdateKind::Merge,
        document,
        extensions: Extensions::new(),
    };
    // The attacker signs with wider limits.
    let signed = |update: Update, key: &RecordKey, writer: &Writer| -> Result<Vec<u8>> {
        let limits = Limits::default().with_update_bytes(1 << 20).with_max_ttl(Duration::MAX);
        let mut record = SmartRecord::new(key.clone());
        record.insert(own.clone(), update.sign(key, keypair, &limits)?)?;
        // A space names its writer, and all writers here have public keys of the same length.
        let mut value = record.encode();
        let at = value.windows(own.as_bytes().len()).position(|window| window == own.as_bytes());
        let at = at.context("the writer is in the record")?;
        value.splice(at..at + own.as_bytes().len(), writer.as_bytes().iter().copied());
        Ok(value)
    };
    let small = || -> Dict { [("name", "mallory")].into_iter().collect() };
    let large: Dict = [("name", "x".repeat(2 * 1_024))].into_iter().collect();
    let elsewhere = RecordKey::new("/sr/demo/elsewhere");

    let withdrawn = demo.withdrawn.as_ref().context("no one has withdrawn")?;

    // Flips one bit of a text that the first writer has signed.
    let mut flipped = honest.encode();
    let at = flipped
        .windows(NAME.len())
        .position(|window| window == NAME.as_bytes())
        .context("the writer's name is in the record")?;
    if let Some(byte) = flipped.get_mut(at) {
        *byte ^= 0x01;
    }

    Ok(vec![
        Attack {
            name: "a forged signature in another writer's space",
            value: signed(update(now, hour, small()), key, writer)?,
            fault: Fault::Invalid,
        },
        Attack {
            name: "an update moved here from another key",
            value: signed(update(now, hour, small()), &elsewhere, &own)?,
            fault: Fault::Invalid,
        },
        Attack {
            name: "an old update after a replace",
            value: withdrawn.encode(),
            fault: Fault::Stale,
        },
        Attack {
            name: "an expired update",
            value: signed(update(now.saturating_sub(hour), hour / 2, small()), key, &own)?,
            fault: Fault::Expired,
        },
        Attack {
            name: "an update from far in the future",
            value: signed(update(now.saturating_add(hour), hour, small()), key, &own)?,
            fault: Fault::LimitExceeded,
        },
        Attack {
            name: "an update that would live too long",
            value: signed(update(now, 72 * hour, small()), key, &own)?,
            fault: Fault::LimitExceeded,
        },
        Attack {
            name: "an oversized update",
            value: signed(update(now, hour, large), key, &own)?,
            fault: Fault::LimitExceeded,
        },
        Attack { name: "a record with one bit flipped", value: flipped, fault: Fault::Invalid },
        Attack { name: "garbage", value: b"not a record at all".to_vec(), fault: Fault::Malformed },
    ])
}

/// Writes and reads as an honest peer.
async fn serve(
    victim: &Host,
    events: &mut Events,
    attacker: &Host,
    keypair: &Keypair,
) -> Result<()> {
    let key = RecordKey::new("/sr/demo/guestbook");
    let mut signer = SpaceSigner::new(key.clone(), keypair.clone(), Limits::default());
    let document: Dict = [("name", "mallory, reformed")].into_iter().collect();
    let now = SystemClock.now();
    signer.merge(document, now, Duration::from_secs(60))?;
    let record = signer.record(now);
    nodes::send(attacker, victim.peer_id(), &key, record.encode()).await?;
    let stored = |event| matches!(event, StoreEvent::Stored { key: stored, .. } if stored == key);
    let stored = nodes::until(events, |event| stored(event).then_some(())).await;
    stored.context("a valid PUT of the attacker was refused")?;
    let reading = attacker.client().get(key.clone()).await?;
    ensure!(
        reading.holders.contains(&victim.peer_id()) && reading.snapshot.record() == Some(&record),
        "a GET of the attacker did not find its own record"
    );
    Ok(())
}
