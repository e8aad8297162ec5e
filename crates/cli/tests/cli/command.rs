//! Runs the command as users do.

use std::process::{Command, Output};

use serde_json::Value;
pub use smart_record_testing::process::Running;

pub fn smart_record(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-record"));
    command.args(arguments);
    command
}

pub fn run(arguments: &[&str]) -> Output {
    smart_record(arguments).output().unwrap()
}

/// Output of a command that may write files of this many blocks.
#[cfg(unix)]
pub fn limited(blocks: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -c 0; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &limit, env!("CARGO_BIN_EXE_smart-record")]).args(arguments);
    command.output().unwrap()
}

/// Output of a command of a user that may not do everything, in an empty folder that it may enter.
#[cfg(unix)]
pub fn unprivileged(arguments: &[&str]) -> Output {
    use std::os::unix::process::CommandExt;

    let mut command = smart_record(arguments);
    if rustix::process::geteuid().is_root() {
        // `nobody`.
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

/// Output of a successful command with `--json`.
pub fn json(arguments: &[&str]) -> Value {
    let run = smart_record(arguments).arg("--json").output().unwrap();
    assert!(run.status.success(), "{arguments:?}: {}", text(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// Output of a failing command with `--json`.
pub fn failure(arguments: &[&str]) -> Value {
    let run = smart_record(arguments).arg("--json").output().unwrap();
    assert_eq!(text(&run.stdout), "", "{arguments:?}");
    let failure: Value = serde_json::from_slice(&run.stderr).unwrap();
    assert_eq!(failure["exit_code"], run.status.code().unwrap(), "{arguments:?}");
    failure
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A node of the DHT that knows these others, and its address.
pub fn start_node(others: &[&str], more: &[&str]) -> (Running, String) {
    let mut command = smart_record(&["node"]);
    command.args(others.iter().flat_map(|other| ["--connect", other])).args(more);
    let node = Running::spawn(command);
    let address = node.line();
    (node, address)
}

/// An address for `--connect` where nobody listens.
pub const NOBODY: &str =
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
