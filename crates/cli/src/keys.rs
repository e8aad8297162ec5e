//! Keys to sign with, in files (`smart-record key`), and keys of records as people write them.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;
use libp2p::{PeerId, identity::Keypair};
use libp2p_smart_record::{RecordKey, Registry, ipns::IpnsName};
use serde_json::json;

use crate::{failure::Failure, output::Format};

#[derive(Subcommand)]
pub enum Command {
    /// Creates an Ed25519 key and prints its peer id.
    Generate {
        /// The file to create, which must not exist; only its owner may read it.
        file: PathBuf,
    },
    /// Prints the peer id of a key.
    Show {
        /// A file from `key generate`.
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
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(file).map_err(failed)?;
    opened.write_all(&encoded).and_then(|()| opened.sync_all()).map_err(failed)?;
    Ok(keypair)
}

/// Reads a key from a file of [`generate`].
pub fn read(file: &Path) -> Result<Keypair, Failure> {
    let name = file.display().to_string();
    let bytes =
        std::fs::read(file).map_err(|source| Failure::KeyFile { file: name.clone(), source })?;
    Keypair::from_protobuf_encoding(&bytes).map_err(|_| Failure::NotAKeyFile(name))
}

/// The key of the node that keeps its records in `store`, from a file beside it whose name ends in
/// `.key`. Creates the key the first time.
pub fn beside(store: &Path) -> Result<Keypair, Failure> {
    let mut file = store.as_os_str().to_owned();
    file.push(".key");
    let file = PathBuf::from(file);
    if file.exists() { read(&file) } else { generate(&file) }
}

/// Parses the key of a record. A key under `/pk/` or `/ipns/` has its peer id or name as text.
pub fn parse(text: &str) -> Result<RecordKey, Failure> {
    let key = RecordKey::from(text);
    let path = || std::str::from_utf8(key.path()).ok();
    let unknown = || Failure::UnknownKey(text.to_owned());
    match key.namespace() {
        Some(
            Registry::SMART_RECORDS
            | libp2p_smart_record::iprs::NAMESPACE
            | libp2p_smart_record::presence::PresenceKey::NAMESPACE,
        ) => match libp2p_smart_record::built_in().check_key(&key) {
            Ok(()) => Ok(key),
            Err(error) => Err(Failure::Arguments {
                message: format!("{key} is not a valid key of a record: {error}"),
                hint: "keys are /sr/PATH, /ipns/NAME, /pk/PEER, /iprs/PEER/NAME and /presence/PEER/",
            }),
        },
        Some(libp2p_smart_record::ipns::NAMESPACE) => {
            text.parse::<IpnsName>().map(|name| name.key()).map_err(|error| Failure::Arguments {
                message: error.to_string(),
                hint: "write /ipns/ and a name such as k51… or 12D3Koo…",
            })
        }
        Some(libp2p_smart_record::pk::NAMESPACE) => {
            let peer = path().and_then(|path| path.parse::<PeerId>().ok()).ok_or_else(|| {
                Failure::Arguments {
                    message: format!("{text} contains no peer id"),
                    hint: "write /pk/ and the peer id of the key",
                }
            })?;
            RecordKey::from_parts(libp2p_smart_record::pk::NAMESPACE, peer.to_bytes())
                .map_err(|_| unknown())
        }
        _ => Err(unknown()),
    }
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
