//! Registries of several formats.

#[cfg(feature = "ipns")]
use smart_record_core::{Registry, Validator};

/// Registry of an IPFS-style record node: smart records, public keys under `/pk/…` and IPNS records
/// under `/ipns/…`.
#[cfg(feature = "ipns")]
pub fn ipfs() -> Registry {
    let registry = and(Registry::default(), crate::pk::NAMESPACE, crate::pk::PublicKeyValidator);
    and(registry, crate::ipns::NAMESPACE, crate::ipns::IpnsValidator)
}

/// Registry of all built-in namespaces, each with the defaults of its validator: `/sr/…`, `/pk/…`,
/// `/ipns/…`, `/iprs/…` (the four schemes that need no beacon) and `/presence/…`.
#[cfg(all(feature = "ipns", feature = "iprs", feature = "presence"))]
pub fn built_in() -> Registry {
    let registry = and(ipfs(), crate::iprs::NAMESPACE, crate::iprs::IprsValidator::default());
    let presence = crate::presence::PresenceValidator::default();
    and(registry, crate::presence::PresenceKey::NAMESPACE, presence)
}

#[cfg(feature = "ipns")]
#[expect(clippy::expect_used, reason = "the names are constants, and a test asks for each")]
fn and(registry: Registry, namespace: &str, validator: impl Validator + 'static) -> Registry {
    registry.with(namespace, validator).expect("a namespace")
}

#[cfg(test)]
#[cfg(all(feature = "ipns", feature = "iprs", feature = "presence"))]
mod tests {
    use smart_record_core::{RecordKey, Timestamp, ValidationError};

    use super::*;

    fn is_known(registry: &Registry, namespace: &str) -> bool {
        let key = RecordKey::from_parts(namespace, "x").unwrap();
        let refused = registry.validate(&key, b"?", Timestamp::EPOCH).unwrap_err();
        !matches!(refused, ValidationError::Unsupported(_))
    }

    #[test]
    fn every_namespace_that_is_built_in_is_known() {
        let registry = built_in();
        for namespace in ["sr", "pk", "ipns", "iprs", "presence"] {
            assert!(is_known(&registry, namespace), "{namespace}");
        }
    }

    #[test]
    fn case_9_each_namespace_has_a_form_of_keys_and_names_it() {
        let registry = built_in();
        let peer = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
        let check = |key: RecordKey| registry.check_key(&key).map_err(|error| error.to_string());
        let name = crate::ipns::IpnsName::from(peer);
        let bytes = |namespace| RecordKey::from_parts(namespace, peer.to_bytes()).unwrap();
        let good = [name.key(), bytes("pk"), format!("/iprs/{peer}/name").into()];
        for key in
            good.into_iter().chain([crate::presence::PresenceKey::of(peer).as_record_key().clone()])
        {
            assert_eq!(check(key.clone()), Ok(()), "{key}");
        }
        let (peer_text, ipns) = ("/namespace/<peer id>/…", "the bytes, not the text, of a peer id");
        for (key, form) in [
            (format!("/ipns/{name}"), ipns),
            (format!("/ipns/{peer}"), ipns),
            (format!("/pk/{peer}"), ipns),
            ("/iprs/name".to_owned(), peer_text),
            (format!("/presence/{peer}"), "/namespace/<client id>/…"),
        ] {
            let told = check(key.as_str().into()).unwrap_err();
            assert!(told.contains(form), "{told}");
        }
    }

    #[test]
    fn an_ipfs_style_node_knows_three_namespaces() {
        let registry = ipfs();
        for (namespace, known) in
            [("sr", true), ("pk", true), ("ipns", true), ("iprs", false), ("presence", false)]
        {
            assert_eq!(is_known(&registry, namespace), known, "{namespace}");
        }
        let public = libp2p_identity::Keypair::generate_ed25519().public();
        let key = crate::pk::PublicKeyValidator::key(&public);
        assert!(registry.validate(&key, &public.encode_protobuf(), Timestamp::EPOCH).is_ok());
    }
}
