//! Signatures of Ed25519, one at a time and several together.
//!
//! **Invariants.** Both ways follow one rule, so that they agree: the equation is multiplied by the
//! cofactor, the encodings of the points are taken as they were sent, and a public key of small
//! order signs nothing. Together a bad signature passes with a probability of 2^-128. The
//! coefficients of a batch are a hash of all that the batch is about: no randomness is drawn, and
//! the result is a function of the input.
//!
//! **Spec.** `docs/wire.md`, section "Which signatures are good". The equation and the encodings
//! are those of [ZIP 215](https://zips.z.cash/zip-0215); keys of small order are refused beyond it.

#![expect(clippy::arithmetic_side_effects, reason = "of scalars and points it always has a result")]

use curve25519_dalek::{
    EdwardsPoint, Scalar, constants::ED25519_BASEPOINT_POINT, edwards::CompressedEdwardsY,
    traits::VartimeMultiscalarMul,
};
use sha2::{Digest, Sha512};

/// Separates the coefficients from other hashes.
const COEFFICIENTS: &[u8] = b"libp2p-smart-record Ed25519 batch";

/// A signature of the right form. It is good if its equation holds: `[8]([s]B − [k]A − R) = 0`.
pub(crate) struct Equation {
    minus_a: EdwardsPoint,
    minus_r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
    /// `A ‖ R`, as sent.
    points: [[u8; 32]; 2],
}

impl Equation {
    /// `None` if the signature has not 64 bytes, `s` is not below the order, `A` or `R` is no
    /// point, or `A` is of small order. No such signature is good.
    pub(crate) fn new(a: &[u8; 32], message: &[u8], signature: &[u8]) -> Option<Self> {
        let (r, s) = signature.split_first_chunk::<32>()?;
        let s = Scalar::from_canonical_bytes(s.try_into().ok()?).into_option()?;
        let point = CompressedEdwardsY(*a).decompress().filter(|a| !a.is_small_order())?;
        let minus_r = -CompressedEdwardsY(*r).decompress()?;
        let k = Sha512::new().chain_update(r).chain_update(a).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&k.into());
        Some(Self { minus_a: -point, minus_r, s, k, points: [*a, *r] })
    }

    /// Whether the signature is good.
    pub(crate) fn holds(&self) -> bool {
        let Self { minus_a, minus_r, s, k, .. } = self;
        let r = EdwardsPoint::vartime_double_scalar_mul_basepoint(k, minus_a, s);
        (r + minus_r).is_small_order()
    }

    /// Whether all of the signatures are good: their equations, each times a coefficient, have a
    /// sum that holds.
    pub(crate) fn all_hold(equations: &[Self]) -> bool {
        match equations {
            [] => return true,
            [only] => return only.holds(),
            _ => {}
        }
        let mut of_base = Scalar::ZERO;
        let mut scalars = Vec::with_capacity(equations.len().saturating_mul(2).saturating_add(1));
        for (equation, z) in equations.iter().zip(coefficients(equations)) {
            of_base += z * equation.s;
            scalars.extend([z * equation.k, z]);
        }
        scalars.push(of_base);
        // The multiplication wants to know how many points there are, which a `Vec` says exactly.
        let points = equations.iter().flat_map(|equation| [equation.minus_a, equation.minus_r]);
        let points: Vec<_> = points.chain([ED25519_BASEPOINT_POINT]).collect();
        EdwardsPoint::vartime_multiscalar_mul(scalars, points).is_small_order()
    }
}

/// A coefficient of 128 bits for each equation. Each depends on every byte of all equations.
fn coefficients(equations: &[Equation]) -> impl Iterator<Item = Scalar> {
    let mut all = Sha512::new().chain_update(COEFFICIENTS);
    for Equation { s, k, points: [a, r], .. } in equations {
        for part in [a, r, s.as_bytes(), k.as_bytes()] {
            all.update(part);
        }
    }
    let all = all.finalize();
    (0_u64..).map(move |n| {
        let hash = Sha512::new().chain_update(all).chain_update(n.to_le_bytes()).finalize();
        let mut z = [0; 32];
        z.iter_mut().zip(hash).take(16).for_each(|(to, from)| *to = from);
        Scalar::from_bytes_mod_order(z)
    })
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use serde_json::Value;

    use super::*;

    type Signed = ([u8; 32], Vec<u8>, Vec<u8>);

    fn signed(seed: u8) -> Signed {
        let keypair = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        let (message, public) = (vec![seed; 100], keypair.public().try_into_ed25519().unwrap());
        let signature = keypair.sign(&message).unwrap();
        (public.to_bytes(), message, signature)
    }

    fn equation((key, message, signature): &Signed) -> Option<Equation> {
        Equation::new(key, message, signature)
    }

    /// The signature with `s` greater by this.
    fn shifted((key, message, signature): Signed, by: Scalar) -> Signed {
        let (r, s) = signature.split_at(32);
        let s = Scalar::from_bytes_mod_order(s.try_into().unwrap()) + by;
        (key, message, [r, s.as_bytes()].concat())
    }

    #[test]
    fn a_batch_with_a_bad_signature_fails_wherever_it_is() {
        for len in 1..20_u8 {
            let good = || (0..len).map(signed).collect::<Vec<_>>();
            let all_hold = |all: &[Signed]| {
                Equation::all_hold(&all.iter().map(|it| equation(it).unwrap()).collect::<Vec<_>>())
            };
            assert!(all_hold(&good()));
            for at in 0..usize::from(len) {
                let mut all = good();
                all[at] = shifted(all[at].clone(), Scalar::ONE);
                assert!(!all_hold(&all));
                let next = (at + 1) % all.len();
                // Without coefficients these two would cancel each other out.
                all[next] = shifted(all[next].clone(), -Scalar::ONE);
                assert_eq!(all_hold(&all), len == 1);
            }
        }
        assert!(Equation::all_hold(&[]));
    }

    #[test]
    fn each_byte_of_a_batch_changes_all_coefficients() {
        let of = |all: &[Signed]| -> Vec<Scalar> {
            let equations: Vec<_> = all.iter().map(|it| equation(it).unwrap()).collect();
            coefficients(&equations).take(all.len()).collect()
        };
        let good: Vec<_> = (0..4).map(signed).collect();
        let before = of(&good);
        assert!(before.iter().all(|z| z.as_bytes()[16..] == [0; 16] && *z != Scalar::ZERO));
        let mut last = good.clone();
        last[3] = shifted(last[3].clone(), Scalar::ONE);
        let mut message = good.clone();
        message[3].1[0] ^= 1;
        let mut key = good.clone();
        key[3].0 = signed(9).0;
        let mut swapped = good.clone();
        swapped.swap(0, 1);
        for other in [last, message, key, swapped] {
            let after = of(&other);
            assert!(before.iter().all(|z| !after.contains(z)));
        }
    }

    #[test]
    fn the_vectors_get_the_same_answer_alone_and_together() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/sr/signatures.json");
        let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let bytes = |case: &Value, field: &str| -> Vec<u8> {
            let hex = case[field].as_str().unwrap().as_bytes();
            hex.chunks(2)
                .map(|byte| u8::from_str_radix(str::from_utf8(byte).unwrap(), 16).unwrap())
                .collect()
        };
        let (mut good, mut bad, mut no_form) = (Vec::new(), Vec::new(), 0);
        for case in cases.iter().filter(|case| bytes(case, "public_key")[1] == 1) {
            let key = bytes(case, "public_key")[4..].try_into().unwrap();
            let it = (key, bytes(case, "preimage"), bytes(case, "signature"));
            let holds = equation(&it).is_some_and(|it| it.holds());
            assert_eq!(holds, case["good"], "{}", case["name"]);
            match equation(&it) {
                Some(_) if holds => good.push(it),
                Some(_) => bad.push(it),
                None => no_form += 1,
            }
        }
        assert!(good.len() > 15 && bad.len() > 2 && no_form > 10);
        let all_hold = |all: &[&Signed]| {
            Equation::all_hold(&all.iter().map(|it| equation(it).unwrap()).collect::<Vec<_>>())
        };
        for len in 0..=good.len() {
            let mut all: Vec<_> = good.iter().take(len).collect();
            assert!(all_hold(&all));
            for bad in &bad {
                all.push(bad);
                all.rotate_right(1);
                assert!(!all_hold(&all));
                all.remove(0);
            }
        }
    }
}
