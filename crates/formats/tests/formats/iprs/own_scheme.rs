//! A user-defined scheme.

use super::*;

#[test]
fn a_scheme_s_parameters_are_part_of_its_cid() {
    let named = || Description::new("com.example.x");
    let all = [
        named(),
        named().with_integer("a", 1),
        named().with_integer("a", 2),
        named().with_integer("b", 1),
        named().with_bytes("a", [1]),
        named().with_link("a", named().cid()),
        Description::new("com.example.y"),
    ];
    for (i, a) in all.iter().enumerate() {
        for b in &all[i + 1..] {
            assert_ne!(a.cid(), b.cid());
        }
    }
    let [ab, ba] = [["a", "b"], ["b", "a"]]
        .map(|names| names.iter().fold(named(), |d, name| d.with_integer(*name, 1)).cid());
    assert_eq!(ab, ba);
}
