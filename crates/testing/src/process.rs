//! Processes that tests start.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

/// Longest wait, far above what any test needs, so that a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running process, which is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    /// Its standard input, until a test takes it.
    pub stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Running {
    /// Starts a process, with pipes for its standard input and output.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, lines) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        Self { child, stdin, lines }
    }

    /// The next line of its standard output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The first result of `wanted` for a line.
    pub fn until<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.line()) {
                return found;
            }
        }
    }

    /// Kills the process, so that it cannot finish anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end and returns the exit code.
    pub fn end(mut self) -> Option<i32> {
        // Its output ends with the process.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end"),
            }
        }
        self.child.wait().unwrap().code()
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Sends a signal, waits for the end and returns the exit code.
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

/// Lines as they come, read on their own thread.
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
