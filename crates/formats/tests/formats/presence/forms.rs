//! The encoding.

use super::*;

use prost::Message;

#[test]
fn a_truncated_announcement() {
    let draft = Draft::at(1);
    let whole = draft.signed().encode_to_vec();
    for len in 0..whole.len() {
        let value = record([draft.value_of(whole[..len].to_vec())]).encode_to_vec();
        assert!(validator().validate(&key(), &value, now()).is_err(), "{len}");
        assert!(validator().read(&key(), &value, now()).is_err(), "{len}");
    }
}

#[test]
fn random_bytes() {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for len in (0..600).step_by(7) {
        let noise: Vec<_> = (0..len).map(|_| next()).collect();
        assert!(validator().validate(&key(), &noise, now()).is_err());
        assert!(validator().read(&key(), &noise, now()).is_err());
        // In place of the signed message.
        let value = record([Draft::at(1).value_of(noise)]).encode_to_vec();
        assert!(validator().validate(&key(), &value, now()).is_err());
    }
}
