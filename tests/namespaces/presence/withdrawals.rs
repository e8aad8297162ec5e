//! Withdrawals by peers that are not the client, and mixtures of both kinds.

use libp2p_smart_record::Fault;
use prost::Message;

use super::*;

#[test]
fn a_withdrawal_by_the_node() {
    let draft = Draft::withdrawn(1).signed_by(Some((node(1), WITHDRAWAL)), None);
    says(&refused(&draft.encode(), Fault::Invalid), "of the client");
    let draft = Draft::withdrawn(1).signed_by(None, Some((node(1), WITHDRAWAL)));
    says(&refused(&draft.encode(), Fault::Invalid), "the client has not signed");
}

#[test]
fn a_withdrawal_with_the_node_s_signature() {
    let draft =
        Draft::withdrawn(1).signed_by(Some((client(), WITHDRAWAL)), Some((node(1), WITHDRAWAL)));
    says(&refused(&draft.encode(), Fault::Malformed), "where there should be none");
}

#[test]
fn a_half_signed_announcement_made_a_withdrawal() {
    let half = Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None);
    let withdrawal = Draft::withdrawn(1);
    let signed = Signed { client_signature: half.signed().client_signature, ..withdrawal.signed() };
    let value = withdrawal.value_of(signed.encode_to_vec());
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "of the client");
    let draft = Draft::withdrawn(1).signed_by(Some((client(), BY_CLIENT)), None);
    says(&refused(&draft.encode(), Fault::Invalid), "of the client");
}

#[test]
fn a_mixture_of_announcement_and_withdrawal() {
    for draft in [
        Draft::withdrawn(1).with(|m| m.handshake_key = vec![8; 32]),
        Draft::withdrawn(1).with(|m| m.presence_key = vec![8; 32]),
        Draft::withdrawn(1).with(|m| m.retain_until = Some(m.expiration_date + 1)),
    ] {
        says(&refused(&draft.encode(), Fault::Malformed), "a mixture");
    }
}

#[test]
fn an_unknown_kind() {
    let draft = Draft::at(1).with(|m| m.kind = 2);
    refused(&draft.encode(), Fault::Unsupported);
}
