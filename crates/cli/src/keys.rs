//! Keys to sign with, in files (`smart-record key`), and keys of records as people write them.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr};
use libp2p_smart_record::{
    KeyEscapeError, RecordKey, Registry, ipns::IpnsName, parse_peer_id, unescape,
};
use serde_json::json;

use crate::{
    failure::Failure,
    files::{self, Existing},
    key_file,
    output::Format,
};

#[derive(Subcommand)]
pub enum Command {
    /// Creates an Ed25519 key and prints its peer id.
    Generate {
        /// The file to create, which must not exist; only its owner may read it.
        file: PathBuf,
    },
    /// Prints the peer id of a key.
    Show {
        /// A file from `key generate` or `ipfs key export`, or a key in PEM (PKCS #8).
        file: PathBuf,
    },
}

pub fn run(command: Command, format: Format) -> Result<ExitCode> {
    let (keypair, file) = match command {
        Command::Generate { file } => (generate(&file)?, file),
        Command::Show { file } => (read(&file)?, file),
    };
    let peer = keypair.public().to_peer_id().to_string();
    let file = file.display().to_string();
    format.line(|| json!({ "peer": peer, "file": file }), || peer.clone())?;
    Ok(ExitCode::SUCCESS)
}

fn generate(file: &Path) -> Result<Keypair, Failure> {
    let failed = |source| Failure::NewKeyFile { file: file.display().to_string(), source };
    let keypair = Keypair::generate_ed25519();
    let encoded = keypair.to_protobuf_encoding().map_err(|e| failed(io::Error::other(e)))?;
    files::write(file, &encoded, Existing::Stays).map_err(failed)?;
    Ok(keypair)
}

/// Reads a key from a file of any format that [`key_file`] knows.
pub fn read(file: &Path) -> Result<Keypair, Failure> {
    let name = file.display().to_string();
    let bytes =
        files::read(file).map_err(|source| Failure::KeyFile { file: name.clone(), source })?;
    key_file::decode(&bytes).map_err(|reason| Failure::NotAKeyFile { file: name, reason })
}

/// The key of the node that keeps its records in `store`, from a file beside it whose name ends in
/// `.key`. Creates the key the first time.
pub fn beside(store: &Path) -> Result<Keypair, Failure> {
    let mut file = store.as_os_str().to_owned();
    file.push(".key");
    let file = PathBuf::from(file);
    // The key of a store is there before the store is.
    let is_new = !store.exists();
    if file.exists() {
        return read(&file);
    }
    if !is_new {
        // No new key fits it. Opening it tells what it is, and no key is left behind.
        return Ok(Keypair::generate_ed25519());
    }
    match generate(&file) {
        // Another process was faster.
        Err(Failure::NewKeyFile { source, .. })
            if source.kind() == io::ErrorKind::AlreadyExists =>
        {
            read(&file)
        }
        made => made,
    }
}

/// Parses the key of a record, as [`show`] writes it. A peer id or name in it may have any of its
/// text forms.
pub fn parse(text: &str) -> Result<RecordKey, Failure> {
    let arguments = |message, hint| Failure::Arguments { message, hint };
    let key: RecordKey = text
        .parse()
        .map_err(|error: KeyEscapeError| arguments(error.to_string(), "write \\\\ for \\"))?;
    let path = || std::str::from_utf8(key.path()).ok();
    let key = match key.namespace() {
        Some(Registry::SMART_RECORDS) => key,
        Some(
            namespace @ (libp2p_smart_record::ipns::NAMESPACE | libp2p_smart_record::pk::NAMESPACE),
        ) => {
            let peer = path().and_then(parse_peer_id).ok_or_else(|| {
                let hint =
                    "write /ipns/ or /pk/, and a peer id such as k51… or 12D3Koo…, or `self`";
                arguments(format!("{key} is not the key of a peer"), hint)
            })?;
            of_namespace(namespace, peer.to_bytes())?
        }
        Some(
            namespace @ (libp2p_smart_record::iprs::NAMESPACE
            | libp2p_smart_record::presence::PresenceKey::NAMESPACE),
        ) => match path().and_then(|path| path.split_once('/')) {
            // The key has the one form that nodes agree on.
            Some((peer, rest)) => match parse_peer_id(peer) {
                Some(peer) => of_namespace(namespace, format!("{peer}/{rest}"))?,
                None => key,
            },
            None => key,
        },
        _ => return Err(Failure::UnknownKey(key.to_string())),
    };
    libp2p_smart_record::built_in().check_key(&key).map_err(|error| {
        let hint = "keys are /sr/PATH, /ipns/NAME, /pk/PEER, /iprs/PEER/NAME and /presence/PEER/";
        arguments(format!("{key} is not a valid key of a record: {error}"), hint)
    })?;
    Ok(key)
}

/// What stands before and after `self` in a key, if it stands where a peer id would.
pub fn after_self(text: &str) -> Option<(&str, &str)> {
    let before = ["/ipns/", "/pk/", "/iprs/", "/presence/"];
    let len = before.iter().find(|before| text.starts_with(**before))?.len();
    let (before, rest) = text.split_at_checked(len)?;
    let after = rest.strip_prefix("self")?;
    (after.is_empty() || after.starts_with('/')).then_some((before, after))
}

/// The peer that a key belongs to, by the form of its namespace.
pub fn owner(key: &RecordKey) -> Option<PeerId> {
    match key.namespace()? {
        libp2p_smart_record::ipns::NAMESPACE | libp2p_smart_record::pk::NAMESPACE => {
            PeerId::from_bytes(key.path()).ok()
        }
        libp2p_smart_record::iprs::NAMESPACE => {
            let path = std::str::from_utf8(key.path()).ok()?;
            parse_peer_id(path.split('/').next()?)
        }
        _ => None,
    }
}

/// Bytes in hexadecimal, as [`hex`] writes them.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let is_pair = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
        u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|_| is_pair)?, 16).ok()
    };
    pairs.map(byte).collect()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_namespace(namespace: &str, path: impl AsRef<[u8]>) -> Result<RecordKey, Failure> {
    RecordKey::from_parts(namespace, path).map_err(|_| Failure::UnknownKey(namespace.to_owned()))
}

/// A path as it is written again: the one that is shown escaped like this, or the text itself.
pub fn path(text: &str) -> String {
    let path = unescape(text).and_then(|path| String::from_utf8(path).ok());
    path.unwrap_or_else(|| text.to_owned())
}

/// Parses an address, with peer ids in any of their text forms.
pub fn address(text: &str) -> Result<Multiaddr, String> {
    let mut is_peer = false;
    let part = |part: &str| {
        let peer = parse_peer_id(part).filter(|_| is_peer).map(|peer| peer.to_string());
        is_peer = matches!(part, "p2p" | "ipfs");
        peer.unwrap_or_else(|| part.to_owned())
    };
    let parts: Vec<_> = text.split('/').map(part).collect();
    parts.join("/").parse().map_err(|error: multiaddr::Error| error.to_string())
}

/// The key in the form that [`parse`] reads.
pub fn show(key: &RecordKey) -> String {
    match key.namespace() {
        Some(libp2p_smart_record::ipns::NAMESPACE) => {
            IpnsName::try_from(key).ok().map(|name| format!("/ipns/{name}"))
        }
        Some(libp2p_smart_record::pk::NAMESPACE) => {
            PeerId::from_bytes(key.path()).ok().map(|peer| format!("/pk/{peer}"))
        }
        _ => None,
    }
    .unwrap_or_else(|| key.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_shown_as_they_are_read() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let name = IpnsName::from(peer);
        let keys = ["/sr/a/b".to_owned(), format!("/pk/{peer}"), format!("/ipns/{name}")];
        for key in keys.into_iter().chain([format!("/iprs/{peer}/a"), format!("/presence/{peer}/")])
        {
            assert_eq!(show(&parse(&key).unwrap()), key);
        }
        assert_eq!(parse(&format!("/ipns/{peer}")).unwrap(), name.key());
        for key in ["", "sr/a", "/sr", "/rooms/a", "/ipns/nobody", "/pk/nobody"] {
            assert!(parse(key).is_err(), "{key}");
        }
    }

    #[test]
    fn case_6_a_peer_is_written_in_any_form_wherever_one_is_written() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let name = IpnsName::from(peer).to_string();
        assert!(name.starts_with("k51"), "{name}");
        for form in ["/pk/X", "/ipns/X", "/iprs/X/a", "/presence/X/", "/presence/X/chat/X"] {
            let [of_name, of_peer] =
                [&name, &peer.to_string()].map(|it| parse(&form.replacen('X', it, 1)).unwrap());
            assert_eq!(of_name, of_peer, "{form}");
            assert_eq!(parse(&show(&of_name)).unwrap(), of_name);
        }
        for form in ["/ip4/1.2.3.4/tcp/1/p2p/X", "/ip4/1.2.3.4/tcp/1/p2p/X/p2p-circuit/p2p/X"] {
            let [of_name, of_peer] =
                [&name, &peer.to_string()].map(|it| address(&form.replace('X', it)).unwrap());
            assert_eq!(of_name, of_peer, "{form}");
        }
        assert!(address(&format!("/dns4/{name}/tcp/1")).unwrap().to_string().contains(&name));
    }

    #[test]
    fn case_13_a_peer_is_not_written_as_a_path() {
        let name = IpnsName::from(Keypair::generate_ed25519().public().to_peer_id());
        for key in [format!("/ipns//ipfs/{name}"), format!("/pk/x/ipfs/{name}")] {
            assert!(parse(&key).is_err(), "{key}");
        }
    }

    #[test]
    fn self_stands_where_a_peer_id_would() {
        for (text, parts) in [
            ("/ipns/self", Some(("/ipns/", ""))),
            ("/pk/self", Some(("/pk/", ""))),
            ("/iprs/self/motd", Some(("/iprs/", "/motd"))),
            ("/presence/self/", Some(("/presence/", "/"))),
            ("/ipns/selfish", None),
            ("/sr/self", None),
            ("/ipns/a/self", None),
            ("self", None),
        ] {
            assert_eq!(after_self(text), parts, "{text}");
        }
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        for key in [format!("/ipns/{peer}"), format!("/pk/{peer}"), format!("/iprs/{peer}/a/b")] {
            assert_eq!(owner(&parse(&key).unwrap()), Some(peer), "{key}");
        }
        assert_eq!(owner(&"/sr/a".into()), None);
        assert_eq!(unhex(&hex(b"\0\xff")).as_deref(), Some(&b"\0\xff"[..]));
        assert_eq!([unhex("0"), unhex("+1"), unhex("zz")], [None, None, None]);
    }

    #[test]
    fn case_12_a_key_is_typed_as_it_is_printed() {
        for (bytes, shown) in [
            ("/sr/café".as_bytes(), "/sr/café"),
            (b"/sr/a\x1b\n", r"/sr/a\x1b\x0a"),
            (b"/sr/a\\b", r"/sr/a\\b"),
            (b"/sr/\xff\"'", r#"/sr/\xff"'"#),
            ("/sr/\u{202e}x".as_bytes(), r"/sr/\xe2\x80\xaex"),
        ] {
            let key = RecordKey::new(bytes);
            assert_eq!(show(&key), shown);
            assert_eq!(parse(shown).unwrap(), key);
        }
        assert!(parse(r"/sr/a\b").unwrap_err().to_string().contains("escape"));
    }

    #[test]
    fn case_9_a_key_without_the_form_of_its_namespace_is_told_before_anybody_is_asked() {
        let long = format!("/sr/{}", "x".repeat(300));
        for (key, form) in [
            ("/iprs/name", "/namespace/<peer id>/…"),
            ("/presence/nobody/", "does not name a client"),
            (&format!("/presence/{}", PeerId::random()), "/namespace/<client id>/…"),
            (&long, "more than the limit of 256"),
        ] {
            let told = parse(key).unwrap_err().to_string();
            assert!(told.contains(form), "{told}");
        }
    }
}
