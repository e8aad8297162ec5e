//! The text forms of names.

use super::*;

#[test]
fn names_as_text() {
    for keypair in all_types() {
        let name = name(&keypair);
        let id = keypair.public().to_peer_id();
        let text = name.to_string();
        assert!(text.starts_with('k'), "{text}");
        for text in [text.clone(), format!("/ipns/{text}"), id.to_string(), format!("/ipns/{id}")] {
            assert_eq!(text.parse(), Ok(name));
        }
        assert_eq!(name.peer_id(), id);
        assert_eq!(name.key(), key(&keypair));
        assert_eq!(IpnsName::try_from(&name.key()), Ok(name));
    }
    for text in [
        "",
        "/ipns/",
        "example.com",
        "Qm",
        "12D3",
        // A CID that is not of a key.
        "bafkqaddimvwgy3zao5xxe3debi",
        // An identity multihash too long for a peer id.
        "bafzqaodboruweytdmrswmz3infvgwy3nnzxxa4lsonzxi3twpb4xu6ryme4tombs",
    ] {
        assert_eq!(text.parse::<IpnsName>(), Err(NameError::Text(text.to_owned())));
    }
}
