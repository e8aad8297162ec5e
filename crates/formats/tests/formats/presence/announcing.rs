//! The announcer: the messages of an honest client and its nodes, with keys of every type.

use super::*;

use prost::Message;

use smart_record_testing::presence as forge;

/// The announcer of a client that has never announced anything.
fn announcer(client: &Keypair) -> Announcer {
    let mut announcer = restarted(client);
    announcer.resume(&PresenceRecord::new(key_of(client))).unwrap();
    announcer
}

/// The announcer of a client that may have announced something before.
fn restarted(client: &Keypair) -> Announcer {
    Announcer::new(key_of(client), client.clone(), PresenceLimits::default()).unwrap()
}

/// The client announces itself at the node, which signs.
fn announce(announcer: &mut Announcer, node: &Keypair, now: Timestamp, ttl: i64) -> Announcement {
    let (handshake, presence) = (exchange_key(8), exchange_key(9));
    let limits = PresenceLimits::default();
    let half = announcer.announce(&node.public(), handshake, presence, now, millis(ttl)).unwrap();
    let half = ClientSignedAnnouncement::decode(announcer.key(), half.encode(), &limits).unwrap();
    let signed = half.countersign(node, handshake, now, &limits).unwrap();
    let signed = Announcement::decode(announcer.key(), signed.encode(), &limits).unwrap();
    announcer.accept(signed.clone()).unwrap();
    signed
}

fn view(record: &PresenceRecord, now: Timestamp) -> Vec<Announcement> {
    record.view(now).cloned().collect()
}

#[test]
fn the_builders_make_what_the_schema_says() {
    let mut announcer = announcer(&client());
    announce(&mut announcer, &node(1), now(), TTL);
    assert_eq!(announcer.record(now()).encode(), Draft::at(1).encode());
    announcer.withdraw(&node(2).public(), now()).unwrap();
    // All announcements of the client are known, and dropped by then.
    let withdrawal = Draft::withdrawn(2).made(1).living(TTL - 1);
    let both = forge::records(&[Draft::at(1), withdrawal]);
    assert_eq!(announcer.record(now()).encode(), both);
}

#[test]
fn all_types_of_keys_sign_as_either_party() {
    for client in all_types() {
        for node in all_types().iter().chain([&ed25519(9)]) {
            if client.public() == node.public() {
                continue;
            }
            let mut announcer = announcer(&client);
            let announcement = announce(&mut announcer, node, now(), TTL);
            assert_eq!((announcement.client(), announcement.node()), (id(&client), id(node)));
            assert_eq!(announcement.node_identity(), &Writer::from(&node.public()));
            let value = announcer.record(now()).encode();
            let key = announcer.key().as_record_key();
            let validity = validator().validate(key, &value, now()).unwrap();
            assert_eq!(validity.expires_at, Some(at(NOW + TTL)));
            let read = validator().read(key, &value, now()).unwrap();
            assert_eq!(view(&read, now()), [announcement]);

            let withdrawal = announcer.withdraw(&node.public(), now()).unwrap();
            let value = announcer.record(now()).encode();
            let read = validator().read(key_of(&client).as_record_key(), &value, now()).unwrap();
            assert_eq!(read.entry(&id(node)), Some(&PresenceEntry::Withdrawn(withdrawal)));
            assert!(view(&read, now()).is_empty());
        }
    }
}

#[test]
fn a_renewal_takes_the_place_of_what_it_renews() {
    let mut announcer = announcer(&client());
    let limits = PresenceLimits::default();
    let first = announce(&mut announcer, &node(1), now(), TTL);
    let later = at(NOW + TTL / 2);
    let half = announcer.renew(&first, later, millis(TTL)).unwrap();
    let second = half.countersign(&node(1), first.handshake_key(), later, &limits).unwrap();
    announcer.accept(second.clone()).unwrap();
    assert_eq!(second.presence_key(), first.presence_key());
    assert_eq!(second.expires_at(), at(NOW + TTL / 2 + TTL));
    let record = announcer.record(later);
    assert_eq!(view(&record, at(NOW + TTL)), [second]);
    // A late arrival changes nothing.
    announcer.accept(first).unwrap();
    assert_eq!(announcer.record(later), record);
}

#[test]
fn what_is_withdrawn_stays_so_for_as_long_as_it_could_come_back() {
    let mut announcer = announcer(&client());
    let old = announce(&mut announcer, &node(1), now(), 2 * HOUR);
    // The client has lost its state and asks the network.
    let mut second = restarted(&client());
    second.learn(&announcer.record(now())).unwrap();
    let withdrawal = second.withdraw(&node(1).public(), now()).unwrap();
    assert_eq!(withdrawal.created_at(), at(NOW + 1));
    assert!(withdrawal.created_at() > old.created_at());
    // The answer may be incomplete: the withdrawal is kept as long as any earlier announcement can
    // be.
    assert_eq!(withdrawal.retain_until(), at(NOW + 1 + 48 * HOUR));
    // A new announcement replaces the withdrawal.
    let again = announce(&mut second, &node(1), now(), TTL);
    assert_eq!(again.created_at(), at(NOW + 2));
    assert_eq!(again.retain_until(), withdrawal.retain_until());
    assert_eq!(view(&second.record(now()), now()), [again]);
}

#[test]
fn case_28_a_withdrawal_goes_with_what_it_hides_if_all_of_that_is_known() {
    let mut announcer = announcer(&client());
    announce(&mut announcer, &node(1), now(), 2 * HOUR);
    announce(&mut announcer, &node(2), now(), TTL);
    let mut second = restarted(&client());
    second.resume(&announcer.record(now())).unwrap();
    let withdrawal = second.withdraw(&node(2).public(), now()).unwrap();
    assert_eq!(withdrawal.retain_until(), at(NOW + 2 * HOUR), "also what moved from node to node");
    let later = at(NOW + 3 * HOUR);
    assert!(second.record(later).is_empty());
    let nothing = second.withdraw(&node(2).public(), later).unwrap();
    assert_eq!(nothing.retain_until(), later.saturating_add(millis(1_000)));
}

#[test]
fn what_is_announced_after_a_restart_outlives_what_was_announced_before() {
    let long = announce(&mut announcer(&client()), &node(1), now(), 40 * HOUR);
    let (mut after, later) = (restarted(&client()), at(NOW + HOUR));
    for n in 1..=2 {
        let short = announce(&mut after, &node(n), later, TTL);
        assert!(short.retain_until() >= long.retain_until());
        assert_eq!(short.expires_at(), short.created_at().saturating_add(millis(TTL)));
    }
    // The old announcement, which the client has forgotten, stays hidden for its lifetime.
    let mut record = after.record(later);
    record.insert(long.clone()).unwrap();
    assert_eq!(view(&record, at(NOW + 40 * HOUR - 1)), []);
    record.collect(at(NOW + 40 * HOUR - 1));
    record.insert(long).unwrap();
    assert_eq!(view(&record, at(NOW + 40 * HOUR - 1)), []);
    // Once no earlier announcement can be retained, the additional retention ends.
    let next = announce(&mut after, &node(1), at(NOW + 49 * HOUR), TTL);
    assert_eq!(next.retain_until(), next.expires_at());
    // `resume` refuses a record of another key.
    let mut lost = restarted(&client());
    assert!(lost.resume(&PresenceRecord::new(key_of(&mallory()))).is_err());
    let short = announce(&mut lost, &node(1), now(), TTL);
    assert_eq!(short.retain_until(), at(NOW + 48 * HOUR));
}

#[test]
fn case_24_what_a_partial_reading_shows_is_not_taken_for_all_that_there_was() {
    let mut before = announcer(&client());
    let short = announce(&mut before, &node(2), now(), TTL);
    let mut shown = before.record(now());
    let long = announce(&mut before, &node(1), now(), 40 * HOUR);
    let mut after = restarted(&client());
    after.learn(&PresenceRecord::new(key_of(&client()))).unwrap();
    after.learn(&shown).unwrap();
    let next = announce(&mut after, &node(1), now(), TTL);
    assert!(next.created_at() > short.created_at());
    assert_eq!(next.retain_until(), at(NOW + 2 + 48 * HOUR - 1));
    // The announcement that was not passed to the announcer does not reappear.
    shown.insert(next.clone()).unwrap();
    shown.insert(long).unwrap();
    assert_eq!(view(&shown, next.expires_at()), []);
    // An announcer with a complete history learns of later messages.
    let mut knowing = announcer(&client());
    knowing.learn(&before.record(now())).unwrap();
    let next = announce(&mut knowing, &node(1), now(), TTL);
    assert_eq!(next.retain_until(), at(NOW + 1 + 40 * HOUR));
    let mut other = restarted(&client());
    assert!(other.learn(&PresenceRecord::new(key_of(&mallory()))).is_err());
}

#[test]
fn case_24_what_was_announced_with_a_clock_that_was_ahead_is_forgotten_and_the_rest_stays() {
    let mut announcer = announcer(&client());
    let right = announce(&mut announcer, &node(1), now(), 2 * HOUR);
    announce(&mut announcer, &node(2), at(NOW + HOUR), TTL);
    let later = at(NOW + HOUR / 60);
    assert!(announcer.is_ahead(later));
    let refused = announcer.withdraw(&node(1).public(), later).unwrap_err();
    assert!(matches!(refused, AnnounceError::Refused(PresenceError::Limit(_))), "{refused}");
    announcer.forget_future(later);
    assert_eq!(view(&announcer.record(later), later), [right]);
    let next = announce(&mut announcer, &node(2), later, TTL);
    assert_eq!(next.created_at(), later);
    // A forgotten announcement may still be replayed once it is no longer in the future.
    assert_eq!(next.retain_until(), later.saturating_add(millis(48 * HOUR)));
    let before = announcer.record(later);
    announcer.forget_future(later);
    assert_eq!(announcer.record(later), before, "with a clock that is right nothing is forgotten");
}

#[test]
fn a_short_announcement_is_kept_as_long_as_a_longer_one_before_it() {
    let mut announcer = announcer(&client());
    let long = announce(&mut announcer, &node(1), now(), 2 * HOUR);
    let short = announce(&mut announcer, &node(1), now(), TTL);
    assert_eq!(short.retain_until(), long.retain_until());
    let record = announcer.record(now());
    assert!(record.view(at(NOW + TTL)).eq([&short]));
    assert!(view(&record, short.expires_at()).is_empty());
    // This holds at another node as well: its announcement may displace the long one.
    let elsewhere = announce(&mut announcer, &node(2), now(), TTL);
    assert_eq!(elsewhere.retain_until(), long.retain_until());
    // A half-signed announcement counts too: the node may complete it at any time.
    let half = announcer
        .announce(&node(3).public(), exchange_key(8), exchange_key(9), now(), millis(3 * HOUR))
        .unwrap();
    let after = announce(&mut announcer, &node(2), now(), TTL);
    assert_eq!(after.retain_until(), half.retain_until());
}

#[test]
fn what_is_put_fits_and_lives() {
    let mut announcer = announcer(&client());
    for n in 1..=9 {
        announce(&mut announcer, &node(n), now(), i64::from(n) * TTL);
    }
    let record = announcer.record(now());
    assert_eq!(record.entries().len(), 8);
    assert!(record.entry(&id(&node(1))).is_none(), "the oldest");
    validator().validate(&forge::key(), &record.encode(), now()).unwrap();
    // An entry is dropped at the exact millisecond of its `retain_until`.
    let kept_until = |n| record.entry(&id(&node(n))).unwrap().retain_until();
    let (second, third) = (kept_until(2), kept_until(3));
    assert!(second < third);
    let just_before = Timestamp::from_millis(second.as_millis() - 1);
    for (now, left) in [(just_before, 8), (second, 7), (third, 6), (kept_until(9), 0)] {
        assert_eq!(announcer.record(now).entries().len(), left);
        let mut collected = record.clone();
        assert_eq!(collected.collect(now), 8 - left);
        assert_eq!(collected.retain_until(), (left > 0).then(|| kept_until(9)));
        assert!(collected.view(now).eq(record.view(now)));
    }
}

#[test]
fn the_client_s_clock_never_goes_back() {
    let mut announcer = announcer(&client());
    let first = announce(&mut announcer, &node(1), now(), TTL);
    let second = announce(&mut announcer, &node(1), at(NOW - HOUR / 60), TTL);
    assert!(second.created_at() > first.created_at());
    assert_eq!(view(&announcer.record(now()), now()), [second]);
}

#[test]
fn only_what_replicas_would_take_is_signed() {
    let mut announcer = announcer(&client());
    let mut try_announce = |node: &Keypair, ttl| {
        let ttl = millis(ttl);
        announcer.announce(&node.public(), exchange_key(8), exchange_key(9), now(), ttl)
    };
    let refused = |result| match result {
        Err(AnnounceError::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(try_announce(&node(1), 48 * HOUR + 1)), PresenceError::Limit(_)));
    assert_eq!(try_announce(&node(1), 0), Err(ZeroLifetime.into()));
    assert_eq!(refused(try_announce(&client(), TTL)), PresenceError::SameParty);
    // Refused calls have not changed the announcer.
    assert_eq!(try_announce(&node(1), 48 * HOUR).unwrap().created_at(), now());

    let other = Announcer::new(key_of(&mallory()), client(), PresenceLimits::default());
    assert!(matches!(
        other,
        Err(AnnounceError::Refused(PresenceError::OtherParty { party: Party::Client, .. }))
    ));
    let long = PresenceKey::with_path(id(&client()), &"x".repeat(256));
    assert!(Announcer::new(long, client(), PresenceLimits::default()).is_err());
}

#[test]
fn an_offer_is_signed_as_it_is() {
    let offer = AnnouncementOffer {
        node: Writer::from(&node(1).public()),
        handshake_key: exchange_key(8),
        presence_key: exchange_key(9),
        created_at: now(),
        expires_at: at(NOW + TTL),
        retain_until: at(NOW + HOUR),
    };
    let limits = PresenceLimits::default();
    let half = offer.sign(&key_of(&client()), &client(), &limits).unwrap();
    let draft = Draft::at(1).with(|m| m.retain_until = Some(NOW + HOUR));
    let unsigned = draft.clone().signed_by(draft.by_client.clone(), None);
    assert_eq!(half.encode(), unsigned.signed().encode_to_vec());
    let signed = half.countersign(&node(1), exchange_key(8), now(), &limits).unwrap();
    assert_eq!(signed.encode(), draft.signed().encode_to_vec());
    // As another client, or as its own node.
    assert!(offer.sign(&key_of(&client()), &mallory(), &limits).is_err());
    assert!(offer.sign(&key_of(&node(1)), &node(1), &limits).is_err());
    let reversed = AnnouncementOffer { expires_at: offer.created_at, ..offer.clone() };
    assert!(reversed.sign(&key_of(&client()), &client(), &limits).is_err());
    let forgotten = AnnouncementOffer { retain_until: at(NOW + TTL - 1), ..offer };
    assert!(forgotten.sign(&key_of(&client()), &client(), &limits).is_err());
}

#[test]
fn a_put_record_is_made_of_what_belongs_together() {
    let key = key_of(&client());
    let limits = PresenceLimits::default();
    let make = |client: &Keypair, node: &Keypair, message: &Draft, expires_at| {
        let message = message.signed().encode_to_vec();
        make_put_record(&key, &id(client), &id(node), message, at(expires_at), &limits)
    };
    for draft in [Draft::at(1), Draft::withdrawn(1)] {
        let record = make(&client(), &node(1), &draft, NOW + TTL).unwrap();
        assert_eq!(record.encode(), draft.encode());
        let decoded = PresenceRecord::decode(&key, draft.encode(), &limits).unwrap();
        assert_eq!(decoded, record);
    }
    let good = Draft::at(1);
    assert!(matches!(
        make(&mallory(), &node(1), &good, NOW + TTL),
        Err(PresenceError::OtherParty { party: Party::Client, .. })
    ));
    assert!(matches!(
        make(&client(), &node(2), &good, NOW + TTL),
        Err(PresenceError::OtherParty { party: Party::Node, .. })
    ));
    assert!(matches!(
        make(&client(), &node(1), &good, NOW + TTL + 1),
        Err(PresenceError::Disagrees { field: "expirationDate" })
    ));
    let half = good.clone().signed_by(good.by_client.clone(), None);
    assert!(matches!(
        make(&client(), &node(1), &half, NOW + TTL),
        Err(PresenceError::MissingSignature { missing: Party::Node })
    ));
    let elsewhere = good.under("/presence/elsewhere/");
    assert!(make(&client(), &node(1), &elsewhere, NOW + TTL).is_err());
}

#[test]
fn entries_of_another_key_do_not_come_in() {
    let mut announcer = announcer(&client());
    let mut other = Announcer::new(
        PresenceKey::with_path(id(&client()), "chat"),
        client(),
        PresenceLimits::default(),
    )
    .unwrap();
    let announcement = announce(&mut other, &node(1), now(), TTL);
    assert!(announcer.accept(announcement.clone()).is_err());
    assert!(announcer.resume(&other.record(now())).is_err());
    let mut record = announcer.record(now());
    assert!(record.insert(announcement).is_err());
    assert!(record.join(other.record(now())).is_err());
    assert!(record.is_empty());
}

#[test]
fn another_namespace_is_another_key() {
    let key = forge::Draft::at(1).key.replace("presence", "here");
    let key = PresenceKey::parse(&RecordKey::new(key)).unwrap();
    let limits = PresenceLimits::default();
    let mut announcer = Announcer::new(key.clone(), client(), limits.clone()).unwrap();
    announce(&mut announcer, &node(1), now(), TTL);
    let value = announcer.record(now()).encode();
    let rules = PresenceValidator::new(limits);
    rules.validate(key.as_record_key(), &value, now()).unwrap();
    assert!(rules.validate(&forge::key(), &value, now()).is_err());
}
