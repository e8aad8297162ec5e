//! The generated code under `src/proto/` is what the `.proto` files say.
//!
//! Nobody needs `protoc`: this test compiles the schemas in Rust. After a change
//! to a `.proto` file, run it once with `UPDATE_PROTO=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary directory");
    let files = [
        "ipns.proto",
        "kademlia.proto",
        "presence.proto",
        "signed_record.proto",
        "smart_record.proto",
        "storage.proto",
    ]
    .map(|f| root.join("proto").join(f));
    let descriptors = protox::compile(&files, [root.join("proto")]).expect("valid schemas");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("generated code");

    for (generated, kept) in [
        ("libp2p_smart_record.ipns.v1.rs", "crates/formats/src/proto/ipns.rs"),
        ("libp2p_smart_record.kademlia.v1.rs", "src/proto/kademlia.rs"),
        ("libp2p_smart_record.signed.v1.rs", "crates/formats/src/proto/signed_record.rs"),
        ("libp2p_smart_record.v1.rs", "crates/core/src/proto/smart_record.rs"),
        ("libp2p_smart_record.storage.v1.rs", "src/proto/storage.rs"),
        ("libp2p_smart_record.presence.v1.rs", "crates/formats/src/proto/presence.rs"),
    ] {
        let fresh = fs::read_to_string(out.path().join(generated)).expect("generated file");
        let kept = root.join(kept);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            fs::create_dir_all(kept.parent().expect("a parent")).expect("directory");
            fs::write(&kept, &fresh).expect("written");
        }
        let kept_text = fs::read_to_string(&kept).unwrap_or_default();
        assert!(
            kept_text == fresh,
            "{} is out of date: run `UPDATE_PROTO=1 cargo test --test proto`",
            kept.display()
        );
    }
}
