//! Small documents with few keys and values, so that they overlap.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use ipld_core::ipld::Ipld;
use libp2p_smart_record::{Cid, Dict, Float, Kind, List, Node, Predicate, Set};

use crate::forge::{NOW, at};

/// The maximum depth of a document.
const DEPTH: u8 = 4;
/// A CID of version 0 and one of version 1.
const LINKS: [&str; 2] =
    ["QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n", "bafkqaddimvwgy3zao5xxe3debi"];
const TEXTS: [&str; 8] = ["", "/", "a", "b", "address", "findings", "dialable", "ä\"\n"];

/// A document.
#[derive(Clone, Debug)]
pub struct Document(pub Dict);

impl<'a> Arbitrary<'a> for Document {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        dict(u, DEPTH).map(Self)
    }
}

fn several<'a, T>(
    u: &mut Unstructured<'a>,
    mut one: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=3_u8)?).map(|_| one(u)).collect()
}

fn dict(u: &mut Unstructured<'_>, depth: u8) -> Result<Dict> {
    Ok(several(u, |u| Ok((kind(u, depth.min(1))?, node(u, depth)?)))?.into_iter().collect())
}

fn elements<C: FromIterator<Node>>(u: &mut Unstructured<'_>, depth: u8) -> Result<C> {
    Ok(several(u, |u| node(u, depth))?.into_iter().collect())
}

fn node(u: &mut Unstructured<'_>, depth: u8) -> Result<Node> {
    let node = Node::new(kind(u, depth)?);
    Ok(match u.int_in_range(0..=5_u8)? {
        0 => node.expires_at(at(NOW + u64::from(u.arbitrary::<u16>()?))),
        1 => node.expires_at(at(u.arbitrary()?)),
        _ => node,
    })
}

fn kind(u: &mut Unstructured<'_>, depth: u8) -> Result<Kind> {
    let last = if depth == 0 { 8 } else { 12 };
    Ok(match u.int_in_range(0..=last)? {
        0 => u.arbitrary::<bool>()?.into(),
        1 => i32::from(u.arbitrary::<i8>()?).into(),
        2 => u.arbitrary::<i64>()?.into(),
        3 => Float::new(f64::from_bits(u.arbitrary()?)).unwrap_or(Float::INFINITY).into(),
        4 => (*u.choose(&TEXTS)?).into(),
        5 => u.arbitrary::<&str>()?.into(),
        6 => u.arbitrary::<[u8; 2]>()?.to_vec().into(),
        7 => u.choose(&LINKS)?.parse::<Cid>().expect("a CID").into(),
        8 => opaque(u.arbitrary()?),
        9 => elements::<List>(u, depth - 1)?.into(),
        10 => elements::<Set>(u, depth - 1)?.into(),
        11 => dict(u, depth - 1)?.into(),
        _ => Predicate {
            tag: (*u.choose(&TEXTS)?).to_owned(),
            positional: elements(u, depth - 1)?,
            named: dict(u, depth - 1)?,
        }
        .into(),
    })
}

/// A node of an unknown kind: field 30.
fn opaque(content: u8) -> Kind {
    let bytes = Ipld::Bytes(vec![0xf2, 0x01, 1, content]);
    Node::from_ipld(Ipld::Map(BTreeMap::from([("Opaque".to_owned(), bytes)]))).expect("a node").kind
}
