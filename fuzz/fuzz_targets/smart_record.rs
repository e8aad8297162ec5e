//! A smart record: every decoded value is canonical, and joining is a semilattice.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use libp2p_smart_record::{Arcs, Coverage, Limits, Open, SmartRecord, SpaceRules};
use libp2p_smart_record_fuzz::{
    forge::{NOW, at, key},
    laws::Laws,
    updates::{Packed, Said},
};

#[derive(Arbitrary, Debug)]
struct Input {
    said: Vec<Said>,
    packed: [Packed; 3],
    raw: Vec<u8>,
    /// Seconds.
    later: u16,
}

fuzz_target!(|input: Input| {
    let key = key();
    let now = at(NOW + 1_000 * u64::from(input.later));
    // Low limits, so that small records exceed them.
    let limits = Limits::default()
        .with_spaces_per_record(3)
        .with_updates_per_space(2)
        .with_space_bytes(300)
        .with_update_bytes(200);
    let rules = SpaceRules::new(limits.clone(), Open);
    let namespace = rules.clone().into();
    let signed: Vec<_> = input.said.iter().take(4).map(|said| said.sign(&key)).collect();
    let values = input.packed.map(|packed| packed.encode(&signed));
    let [a, b, c] = &values;

    Laws { namespace: &namespace, key: &key, now, combines: true }.check(&[a, b, c, &input.raw]);

    let join = |values: &[&[u8]]| rules.consolidate(&key, values);
    if let (Ok(ab), Ok(bc)) = (join(&[a, b]), join(&[b, c])) {
        assert_eq!(join(&[&ab, c]), join(&[a, &bc]));
    }

    for value in values.iter().chain([&input.raw]) {
        if let Some(coverage) = Coverage::of_answer(value) {
            let (mut field, mut arcs) = (Vec::new(), Arcs::new());
            coverage.append_to(&mut field);
            assert_eq!(Coverage::of_answer(&field).as_ref(), Some(&coverage));
            arcs.add(coverage.arcs().iter().copied());
            let ends = coverage.arcs().iter().flat_map(|arc| [arc.first, arc.last]);
            assert!(ends.into_iter().all(|place| arcs.has(place)) && arcs.share() <= 1.0);
        }
        let Ok(record) = rules.read(&key, value, now) else {
            continue;
        };
        let bytes = record.encode();
        let updates = record.spaces().flat_map(|(_, space)| space.updates());
        for update in updates.filter(|update| !update.extensions().is_empty()) {
            let said = signed.iter().any(|(_, said)| said.update == update.as_bytes());
            assert!(said, "extension fields that nobody signed");
        }
        assert_eq!(SmartRecord::decode(&key, bytes.clone(), &limits).as_ref(), Ok(&record));
        assert_eq!(rules.read(&key, &bytes, now).as_ref(), Ok(&record));
        assert_eq!(join(&[&bytes]), Ok(bytes.clone()));
        rules.validate(&key, &bytes, now).expect("what was read is valid");
        let mut rest = record.clone();
        rest.collect(now);
        assert_eq!(rest.view(now), record.view(now));
    }
});
