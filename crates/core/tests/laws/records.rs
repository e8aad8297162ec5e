//! Records: join, limits, views and collection, delivery, and the validator.

#[cfg(feature = "ecdsa")]
use p256::ecdsa::Signature;

use super::*;

#[test]
fn case_26_what_was_written_as_an_array_is_what_is_read() {
    let mut author = Author::new(1);
    let mut record = SmartRecord::new(key());
    let mut write = |document: &str| {
        let (writer, update) = author.act(1, &Act::Merge(document.parse().unwrap(), 1_000));
        record.insert(writer, update).unwrap();
        let read = SpaceRules::default().read(&key(), &record.encode(), at(author.now)).unwrap();
        let view = read.view(at(author.now));
        let (_, space) = view.iter().next().unwrap();
        space.document.to_json().to_string()
    };
    let first = r#"{"players":["zoe","ann"],"pos":[3,1,1]}"#;
    assert_eq!(write(first), first);
    assert_eq!(write(r#"{"pos":[2,2]}"#), r#"{"players":["zoe","ann"],"pos":[2,2]}"#);
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn join_is_a_semilattice(histories in histories(any_history()), seed: u64) {
        let updates = all_updates(&histories);
        let [a, b, c] = deal(&updates, &mut Dice(seed));
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        let all = joined(&joined(&a, &b), &c);
        prop_assert_eq!(joined(&all, &b), all.clone());
        prop_assert_eq!(all, record_of(&updates));
    }

    #[test]
    fn limits_are_a_part_of_the_join(histories in histories(any_history()), seed: u64) {
        for (limits, updates) in limited(all_updates(&histories)) {
            let cut = |record| truncated(record, &limits);
            let [a, b, c] = deal(&updates, &mut Dice(seed));
            let all = cut(record_of(&updates));
            // Truncates before, between and after joins, in any grouping.
            let (ca, cb, cc) = (cut(a.clone()), cut(b.clone()), cut(c.clone()));
            prop_assert_eq!(cut(joined(&ca, &cb)), cut(joined(&cb, &ca)));
            prop_assert_eq!(cut(joined(&ca, &cb)), cut(joined(&a, &b)));
            prop_assert_eq!(&cut(joined(&cut(joined(&ca, &cb)), &cc)), &all);
            prop_assert_eq!(&cut(joined(&ca, &cut(joined(&cb, &cc)))), &all);
            prop_assert_eq!(&cut(joined(&joined(&a, &cb), &c)), &all);
            prop_assert_eq!(&cut(joined(&all, &cb)), &all);
            prop_assert_eq!(&cut(all.clone()), &all);
            // The newest stay while the updates above them leave room, and no fewer.
            for (writer, space) in all.spaces() {
                let whole = record_of(&updates);
                let (mut bytes, mut kept) = (0, Vec::new());
                for update in whole.space(writer).unwrap().updates().collect::<Vec<_>>().into_iter().rev() {
                    if kept.len() == 3 || bytes >= 250 {
                        break;
                    }
                    bytes += update.as_bytes().len();
                    kept.insert(0, update.clone());
                }
                // The newest replace, which is the first update if there is one, stays in addition.
                if let Some(first) = whole.space(writer).unwrap().updates().next()
                    && first.kind() == UpdateKind::Replace
                    && kept.first() != Some(first)
                {
                    kept.insert(0, first.clone());
                }
                prop_assert_eq!(space.updates().cloned().collect::<Vec<_>>(), kept);
            }
            prop_assert!(all.spaces().len() <= limits.spaces_per_record());
            for (_, space) in all.spaces() {
                let merges = || space.updates().filter(|u| u.kind() == UpdateKind::Merge);
                let bytes: usize = merges().map(|u| u.as_bytes().len()).sum();
                prop_assert!(merges().count() <= limits.updates_per_space());
                prop_assert!(bytes <= limits.space_bytes());
            }
            }
        }

    #[test]
    fn which_spaces_stay_is_the_same_once_the_same_was_heard_again(
        histories in histories(any_history()),
        seed: u64,
    ) {
        let limits = small_limits();
        let updates = all_updates(&histories);
        let hands = deal(&updates, &mut Dice(seed));
        let whole = record_of(&updates);
        let expected = decided(&truncated(whole.clone(), &limits), &whole);
        let mut replicas = [(); 2].map(|()| SmartRecord::new(key()));
        for (replica, order) in replicas.iter_mut().zip([[0, 1, 2], [2, 0, 1]]) {
            // The first time a space may be dropped for one that is withdrawn later.
            for hand in order.iter().chain(&order) {
                *replica = truncated(joined(replica, &hands[*hand]), &limits);
            }
            prop_assert_eq!(decided(replica, &whole), expected.clone());
        }
        let count = |withdrawn| {
            let of_kind = |record: &SmartRecord| {
                record.spaces().filter(|(_, space)| space.is_withdrawn() == withdrawn).count()
            };
            (of_kind(&expected), of_kind(&whole))
        };
        // Those that are withdrawn take no place of the others.
        let ((open, of_open), (withdrawn, of_withdrawn)) = (count(false), count(true));
        prop_assert_eq!(open, of_open.min(limits.spaces_per_record()));
        prop_assert_eq!(withdrawn, of_withdrawn);
    }

    #[test]
    fn which_spaces_stay_by_work_is_the_same_once_the_same_spaces_were_heard_again(
        histories in histories(stamped()),
        seed: u64,
    ) {
        let limits = small_limits();
        let updates = all_updates(&histories);
        let mut dice = Dice(seed);
        let whole = truncated(record_of(&updates), &limits_of_spaces());
        let expected = decided(&truncated(whole.clone(), &limits), &whole);
        let mut states: Vec<_> = whole.spaces().collect();
        for _ in 0..2 {
            // What is heard first, in any pieces, may leave anything.
            let mut replica = SmartRecord::new(key());
            for hand in deal(&updates, &mut dice) {
                replica = truncated(joined(&replica, &hand), &limits);
            }
            // Then each space as it is, from its writer or from another replica.
            for _ in 0..2 {
                dice.shuffle(&mut states);
                for (writer, space) in &states {
                    replica.join_space(Writer::clone(writer), Clone::clone(*space));
                    replica.truncate(&limits);
                }
            }
            prop_assert_eq!(decided(&replica, &whole), expected.clone());
        }
        // The order is that of work, then of rank.
        let order = |(writer, space): (&Writer, &Space)| {
            space.eviction_order(writer.rank(&key()), limits.min_stamp_bits())
        };
        let open = |record: &SmartRecord| -> Vec<_> {
            record.spaces().filter(|(_, space)| !space.is_withdrawn()).map(order).collect()
        };
        let mut all = open(&whole);
        all.sort_unstable();
        all.truncate(limits.spaces_per_record());
        let mut stayed = open(&expected);
        stayed.sort_unstable();
        prop_assert_eq!(stayed, all);
    }

    #[test]
    fn stamps_change_nothing_in_a_space(histories in histories(stamped()), seed: u64) {
        let limits = limits_of_spaces();
        let updates = all_updates(&histories);
        let cut = |record| truncated(record, &limits);
        let [a, b, c] = deal(&updates, &mut Dice(seed));
        let all = cut(record_of(&updates));
        let (ca, cb, cc) = (cut(a.clone()), cut(b.clone()), cut(c.clone()));
        prop_assert_eq!(cut(joined(&ca, &cb)), cut(joined(&b, &a)));
        prop_assert_eq!(&cut(joined(&cut(joined(&ca, &cb)), &cc)), &all);
        prop_assert_eq!(&cut(joined(&ca, &cut(joined(&cb, &cc)))), &all);
        prop_assert_eq!(&cut(joined(&all, &cb)), &all);
        // A space and its encoded form have the same work, whoever looks.
        for (writer, space) in all.spaces() {
            let (rank, bytes) = (writer.rank(&key()), space.encode(writer));
            prop_assert_eq!(space.encoded_len(writer), bytes.len());
            let work = space.updates().map(|update| update.work(&rank)).max().unwrap();
            for min_bits in 0..6 {
                let order = space.eviction_order(rank, min_bits);
                prop_assert_eq!(EncodedSpace::new(&bytes).eviction_order(rank, min_bits), order);
                prop_assert_eq!(order.work(), if work >= min_bits { work } else { 0 });
            }
        }
    }

    #[test]
    fn collecting_changes_no_view(
        histories in histories(any_history()),
        times in vec(0..SPAN, 3),
    ) {
        let record = record_of(&all_updates(&histories));
        let mut times = times;
        times.sort_unstable();
        let (early, late) = (at(times[0]), at(times[2]));
        let once = collected(record.clone(), early);
        prop_assert_eq!(once.view(late), record.view(late));
        prop_assert_eq!(once.view(early), record.view(early));
        // Collecting twice equals collecting at the later time.
        let twice = collected(collected(once, at(times[1])), late);
        prop_assert_eq!(&twice, &collected(record.clone(), late));
        prop_assert_eq!(twice.view(late), record.view(late));
        for (_, space) in twice.spaces() {
            for update in space.updates() {
                prop_assert!(update.retain_until() > late);
            }
        }
    }

    #[test]
    fn a_collected_value_reads_the_same(
        histories in histories(any_history()),
        (a, b) in (0..SPAN, 0..SPAN),
    ) {
        let rules = SpaceRules::default();
        let (then, now) = (at(a.min(b)), at(a.max(b)));
        let record = record_of(&all_updates(&histories));
        let rest = collected(record.clone(), then);
        let read = |record: &SmartRecord| rules.read(&key(), &record.encode(), now).ok();
        prop_assert_eq!(read(&rest), read(&record));
    }

    #[test]
    fn nothing_expired_is_ever_visible(
        histories in histories(any_history()),
        offsets in vec(0..SPAN, 8),
    ) {
        let record = record_of(&all_updates(&histories));
        for now in offsets.into_iter().map(at) {
            for (_, space) in &record.view(now) {
                prop_assert!(space.expires_at > now);
                for (_, node) in &space.document {
                    assert_nothing_expired(node, now)?;
                }
            }
        }
        prop_assert!(record.view(at(SPAN + SPAN)).is_empty());
    }

    #[test]
    fn any_delivery_gives_the_same_record(
        histories in histories(any_history()),
        seed: u64,
        now in 0..SPAN,
    ) {
        let updates = all_updates(&histories);
        let mut dice = Dice(seed);
        let cases = limited(updates.clone()).into_iter().chain([(Limits::default(), updates)]);
        for (limits, updates) in cases.filter(|(_, updates)| !updates.is_empty()) {
            let mut received = SmartRecord::new(key());
            for packet in packets(&updates, &mut dice) {
                let part = SmartRecord::decode(&key(), packet, &limits).unwrap();
                received.join(part).unwrap();
                received.truncate(&limits);
            }
            let expected = truncated(record_of(&updates), &limits);
            prop_assert_eq!(&received, &expected);
            prop_assert_eq!(received.encode(), expected.encode());
            prop_assert_eq!(received.view(at(now)), expected.view(at(now)));
        }
    }

    #[test]
    fn what_was_withdrawn_never_comes_back(
        before in acts(),
        after in option::of(acts()),
        pause in 0_u64..300,
        seed: u64,
    ) {
        let mut author = Author::new(1);
        let mut write = |acts: &[(u64, Act)]| -> Updates {
            acts.iter().map(|(after, act)| author.act(*after, act)).collect()
        };
        let old = write(&before);
        let withdrawal = write(&[(pause, Act::Withdraw)]).remove(0);
        let new = write(&after.unwrap_or_default());
        let withdrawn_at = withdrawal.1.seq().issued_at().as_millis() - T0;

        let mut dice = Dice(seed);
        let mut record = SmartRecord::new(key());
        // The withdrawal arrives among the old updates. After it they are only repeated.
        let mut seen = old.clone();
        dice.shuffle(&mut seen);
        seen.truncate(dice.roll(seen.len() + 1));
        seen.push(withdrawal.clone());
        for (writer, update) in seen.iter().chain(&new) {
            record.insert(writer.clone(), update.clone()).unwrap();
        }
        let expected = record_of(&new);
        let mut now = withdrawn_at;
        while now < SPAN + 500 {
            // The replica that missed the withdrawal keeps sending. Expired updates are refused.
            for (writer, update) in &old {
                if update.retain_until() > at(now) {
                    record.insert(writer.clone(), update.clone()).unwrap();
                }
            }
            prop_assert_eq!(record.view(at(now)), expected.view(at(now)), "at {}", now);
            if dice.roll(3) == 0 {
                record.collect(at(now));
            }
            now += 1 + dice.roll(400) as u64;
        }
    }

    #[test]
    fn a_rule_breaker_harms_only_itself(
        honest in lawful(),
        villain in lawless(),
        now in 0..SPAN,
    ) {
        let (honest, villain) = (updates_of(1, &honest), updates_of(2, &villain));
        let writer = honest[0].0.clone();
        let alone = record_of(&honest);
        let both = record_of(honest.iter().chain(&villain));
        let seen = |view: &View| view.get(&writer.peer_id()).cloned();
        prop_assert_eq!(seen(&both.view(at(now))), seen(&alone.view(at(now))));
        prop_assert_eq!(both.space(&writer), alone.space(&writer));

        // The updates of one writer in the space of another, as if the other had signed them.
        let own = villain[0].0.as_bytes();
        let mut forged = record_of(&villain).encode();
        let place = forged.windows(own.len()).position(|window| window == own).unwrap();
        forged.splice(place..place + own.len(), writer.as_bytes().iter().copied());

        prop_assert!(SmartRecord::decode(&key(), forged.clone(), &Limits::default()).is_err());
        let validator = SpaceRules::default();
        let good = alone.encode();
        prop_assert_eq!(validator.consolidate(&key(), &[&forged, &good]), Ok(good));
        prop_assert!(validator.consolidate(&key(), &[&forged]).is_err());
    }

    #[test]
    fn a_record_survives_its_encoding(histories in histories(any_history()), max in 0_usize..2_000) {
        let record = record_of(&all_updates(&histories));
        let limits = Limits::default();
        prop_assert_eq!(&SmartRecord::decode(&key(), record.encode(), &limits).unwrap(), &record);
        let mut whole = SmartRecord::new(key());
        for chunk in record.chunks(max) {
            let part = SmartRecord::decode(&key(), chunk.clone(), &limits).unwrap();
            let updates: usize = part.spaces().map(|(_, space)| space.updates().len()).sum();
            prop_assert!(chunk.len() <= max || updates == 1);
            whole.join(part).unwrap();
        }
        prop_assert_eq!(whole, record);
    }

    #[test]
    fn only_extension_fields_may_follow_what_is_known(
        mut raw in raw(),
        fields in vec((14_u32..34, prop::bool::weighted(0.9), vec(any::<u8>(), 0..120)), 0..6),
        sorted in prop::bool::weighted(0.8),
    ) {
        let mut fields = fields;
        if sorted {
            fields.sort_by_key(|(number, ..)| *number);
        }
        raw.extensions = Extensions::new();
        let mut bytes = sign_raw(1, &raw).1.as_bytes().to_vec();
        let known = bytes.len();
        for (number, is_bytes, content) in &fields {
            match is_bytes {
                true => prost::encoding::bytes::encode(*number, content, &mut bytes),
                false => prost::encoding::uint64::encode(*number, &1, &mut bytes),
            }
        }
        let is_good = fields.iter().all(|(n, is_bytes, _)| *is_bytes && (16..32).contains(n))
            && fields.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let fits = bytes.len() - known <= Extensions::MAX_BYTES;

        let (writer, keypair) = (Writer::from(&keypair(1).public()), keypair(1));
        let message = smart_record_core::envelope_bytes(
            SIGNATURE_DOMAIN,
            SIGNATURE_PAYLOAD_TYPE,
            &[&[u8::try_from(key().as_bytes().len()).unwrap()], key().as_bytes(), &bytes],
        );
        let signature = keypair.sign(&message).unwrap();
        let limits = Limits::default();
        let decoded = SignedUpdate::decode(&key(), &writer, bytes.clone().into(), signature.into(), &limits);
        match decoded {
            Ok(update) => {
                prop_assert!(is_good && fits);
                prop_assert_eq!(update.as_bytes(), &bytes);
                let extensions = update.extensions();
                let found: Vec<_> = fields.iter().map(|(n, _, content)| (*n, &content[..])).collect();
                prop_assert_eq!(extensions.iter().collect::<Vec<_>>(), found);
                prop_assert_eq!(update.document(), raw.document);
            }
            Err(UpdateError::NotCanonical) => prop_assert!(!is_good),
            Err(UpdateError::Limit(error)) => {
                prop_assert!(is_good && !fits);
                prop_assert_eq!(error.limit, Limit::EXTENSION_BYTES);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn the_container_has_no_say(histories in histories(any_history()), seed: u64) {
        let updates = all_updates(&histories);
        let record = record_of(&updates);
        let mut dice = Dice(seed);
        let value = mirror::disorderly(&updates, &mut dice);
        let limits = Limits::default();
        prop_assert_eq!(&SmartRecord::decode(&key(), value.clone(), &limits).unwrap(), &record);
        let validator = SpaceRules::default();
        prop_assert_eq!(validator.consolidate(&key(), &[&value]).unwrap(), record.encode());
    }

    #[test]
    fn consolidating_is_joining(histories in histories(any_history()), seed: u64) {
        for (limits, updates) in limited(all_updates(&histories)) {
            if updates.is_empty() {
                continue;
            }
            let validator = SpaceRules::new(limits.clone(), Open);
            let key = key();
            let join = |values: &[&[u8]]| validator.consolidate(&key, values).unwrap();
            let mut dice = Dice(seed);
            let records = deal(&updates, &mut dice).map(|r| joined(&r, &record_of([&updates[0]])));
            let [a, b, c] = &records.clone().map(|record| record.encode());
            prop_assert_eq!(join(&[a, b]), join(&[b, a]));
            prop_assert_eq!(join(&[&join(&[a, b]), c]), join(&[a, &join(&[b, c])]));
            prop_assert_eq!(join(&[a, b, c]), join(&[c, &join(&[b, a])]));
            prop_assert_eq!(join(&[a, a]), join(&[a]));
            prop_assert_eq!(join(&[&join(&[a, b]), b]), join(&[a, b]));
            // Invalid and empty values change nothing.
            prop_assert_eq!(join(&[b"rubbish", a, b""]), join(&[a]));
            let expected = truncated(joined(&joined(&records[0], &records[1]), &records[2]), &limits);
            prop_assert_eq!(join(&[a, b, c]), expected.encode());
            }
        }

    #[test]
    fn selecting_does_not_depend_on_the_order(histories in histories(any_history()), seed: u64) {
        let validator = SpaceRules::default();
        let mut dice = Dice(seed);
        let updates = all_updates(&histories);
        let state = |value: &[u8]| SmartRecord::decode(&key(), value.to_vec(), &Limits::default());
        let mut values: Vec<Vec<u8>> = deal(&updates, &mut dice)
            .iter()
            .filter(|record| record.spaces().len() > 0)
            .map(SmartRecord::encode)
            .collect();
        values.push(b"rubbish".to_vec());
        let best = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            validator.select(&key(), &values).unwrap()
        };
        let first = best(&values);
        let chosen = values[first].clone();
        prop_assert!(state(&chosen).is_ok());
        // The lowest index wins a tie, for equal bytes and for equal content.
        values.push(chosen.clone());
        prop_assert_eq!(best(&values), first);
        let same = state(&chosen).unwrap();
        let its_updates: Updates = same
            .spaces()
            .flat_map(|(w, space)| space.updates().map(|u| (w.clone(), u.clone())))
            .collect();
        values.push(mirror::disorderly(&its_updates, &mut dice));
        prop_assert_eq!(best(&values), first);
        for _ in 0..3 {
            dice.shuffle(&mut values);
            let best = best(&values);
            prop_assert_eq!(&state(&values[best]).unwrap(), &same);
            let lowest = values.iter().position(|v| state(v).as_ref() == Ok(&same));
            prop_assert_eq!(Some(best), lowest);
        }
        // Pairwise selection gives the same result: the order is total.
        let winner = values.iter().cloned().reduce(|a, b| {
            let pair = [a, b];
            let best = validator.select(&key(), &[&pair[0], &pair[1]]).unwrap_or(0);
            pair[best].clone()
        });
        prop_assert_eq!(state(&winner.unwrap()), Ok(same));
    }
}

/// The second valid ECDSA signature of the same bytes, which anyone can compute: `s` becomes `n -
/// s`.
#[cfg(feature = "ecdsa")]
fn twin_signature(der: &[u8]) -> Vec<u8> {
    let (r, s) = Signature::from_der(der).unwrap().split_scalars();
    Signature::from_scalars(r, -s).unwrap().to_der().as_bytes().to_vec()
}

#[cfg(feature = "ecdsa")]
#[test]
fn of_two_good_signatures_every_replica_keeps_the_same() {
    let keypair = Keypair::generate_ecdsa();
    let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
    let one = signer.merge(Dict::new(), at(0), Duration::from_secs(60)).unwrap();
    let other = SignedUpdate::decode(
        &key(),
        &signer.writer(),
        one.as_bytes().to_vec().into(),
        twin_signature(one.signature()).into(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(one.position(), other.position());
    assert_ne!(one, other);
    let pair = [(signer.writer(), one), (signer.writer(), other)];
    let least = pair.iter().min_by_key(|(_, u)| u.signature().to_vec()).unwrap();
    let reversed = [pair[1].clone(), pair[0].clone()];
    for order in [&pair, &reversed] {
        let record = record_of(order);
        assert_eq!(record, record_of([least]));
    }
}

#[test]
fn there_is_nothing_to_select_from_nothing() {
    let validator = SpaceRules::default();
    assert_eq!(validator.select(&key(), &[]), Err(ValidationError::NoValue));
    assert_eq!(validator.consolidate(&key(), &[]), Err(ValidationError::NoValue));
    let fault = |values: &[&[u8]]| validator.select(&key(), values).map_err(|e| e.fault());
    assert_eq!(fault(&[b"rubbish", b""]), Err(Fault::Malformed));
}

/// The containers of `proto/smart_record.proto` with additional unknown fields.
mod mirror {
    use super::{Dice, Message, Updates};

    #[derive(Clone, PartialEq, Message)]
    struct SmartRecord {
        #[prost(message, repeated, tag = "1")]
        spaces: Vec<Space>,
        #[prost(string, tag = "15")]
        future: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Space {
        #[prost(bytes = "vec", tag = "1")]
        public_key: Vec<u8>,
        #[prost(message, repeated, tag = "2")]
        updates: Vec<SignedUpdate>,
        #[prost(uint64, tag = "9")]
        future: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct SignedUpdate {
        #[prost(bytes = "vec", tag = "1")]
        update: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        signature: Vec<u8>,
        #[prost(bytes = "vec", tag = "400")]
        future: Vec<u8>,
    }

    /// A container of the updates with everything out of order.
    pub(super) fn disorderly(updates: &Updates, dice: &mut Dice) -> Vec<u8> {
        let mut order: Updates = updates.clone();
        for _ in 0..dice.roll(4) {
            order.push(updates[dice.roll(updates.len())].clone());
        }
        dice.shuffle(&mut order);
        let mut spaces: Vec<Space> = Vec::new();
        for (writer, update) in order {
            let update = SignedUpdate {
                update: update.as_bytes().to_vec(),
                signature: update.signature().to_vec(),
                future: vec![7; dice.roll(3)],
            };
            let known = spaces.iter().position(|s| s.public_key == writer.as_bytes());
            match known.filter(|_| dice.roll(2) == 0) {
                Some(at) => spaces[at].updates.push(update),
                None => spaces.push(Space {
                    public_key: writer.as_bytes().to_vec(),
                    updates: vec![update],
                    future: dice.roll(3) as u64,
                }),
            }
            if dice.roll(4) == 0 {
                spaces.push(Space { public_key: writer.as_bytes().to_vec(), ..Space::default() });
            }
        }
        dice.shuffle(&mut spaces);
        let future = "x".repeat(dice.roll(5));
        SmartRecord { spaces, future }.encode_to_vec()
    }
}
