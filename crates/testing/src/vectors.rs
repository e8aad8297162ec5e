//! Records made by other implementations, and by us for them. Each folder of `tests/vectors/`
//! states the origin of its files.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The path of a file of vectors.
pub fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/vectors", name].iter().collect()
}

/// The vectors in a file: a JSON array that is not empty.
pub fn read(path: &Path) -> Vec<Value> {
    let vectors: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(!vectors.is_empty(), "{}", path.display());
    vectors
}

/// The vectors of the npm package `ipns`, from the repository or from the file in the environment
/// variable `IPNS_VECTORS`.
pub fn npm_ipns() -> Vec<Value> {
    read(
        &std::env::var_os("IPNS_VECTORS").map_or_else(|| path("ipns/npm-ipns.json"), PathBuf::from),
    )
}

/// The text in a field of a vector.
pub fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{field} in {vector}"))
}

/// The bytes in a field of a vector, in hexadecimal digits.
pub fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    let hex = text(vector, field);
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
}
