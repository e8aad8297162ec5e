//! The command line, run as users run it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use serde_json::Value;

/// Nothing here takes nearly as long; a test that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn smart_record(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-record"));
    command.args(arguments);
    command
}

pub fn run(arguments: &[&str]) -> Output {
    smart_record(arguments).output().unwrap()
}

/// What a command that does not fail prints with `--json`.
pub fn json(arguments: &[&str]) -> Value {
    let run = smart_record(arguments).arg("--json").output().unwrap();
    assert!(run.status.success(), "{arguments:?}: {}", text(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// What a command that fails prints with `--json`.
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

/// A process that runs; it is killed when it is dropped.
pub struct Running {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, lines) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        Self { child, stdin, lines }
    }

    /// A node of the DHT that knows these, and its address.
    pub fn node(others: &[&str], more: &[&str]) -> (Self, String) {
        let mut command = smart_record(&["node"]);
        command.args(others.iter().flat_map(|other| ["--connect", other])).args(more);
        let node = Self::spawn(command);
        let address = node.line();
        (node, address)
    }

    /// The next line of its standard output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The first line from now on that `wanted` gives something for.
    pub fn until<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.line()) {
                return found;
            }
        }
    }

    /// Loses the process, with no chance to finish anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, and returns the exit code.
    pub fn end(mut self) -> Option<i32> {
        // Its output has an end when it has.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        self.child.wait().unwrap().code()
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Sends a signal, waits for the end, and returns the exit code.
    #[cfg(unix)]
    pub fn stop(self, signal: rustix::process::Signal) -> Option<i32> {
        self.signal(signal);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they come; a thread of its own waits for them.
pub fn lines(out: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The address as `--connect` takes it, of one where nobody listens.
pub const NOBODY: &str =
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
