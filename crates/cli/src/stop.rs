//! Being told to stop: Ctrl-C, and what a service manager or `kill` sends.
//!
//! **Invariants.** From [`Stop::new`] on no such signal ends the process; whoever has it sees to that.

use std::{io, process::ExitCode};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How the process was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    #[cfg(unix)]
    Terminated,
}

impl Stopped {
    /// What a shell expects of a command that was stopped before it was done.
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Interrupted => 130,
            #[cfg(unix)]
            Self::Terminated => 143,
        })
    }
}

/// Notices that the process is told to stop.
pub struct Stop {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
}

impl Stop {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: signal(SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns when that happens; asked again, when it happens again.
    #[cfg(unix)]
    pub async fn asked(&mut self) -> Stopped {
        tokio::select! {
            _ = self.interrupt.recv() => Stopped::Interrupted,
            _ = self.terminate.recv() => Stopped::Terminated,
        }
    }

    /// Returns when that happens; asked again, when it happens again.
    #[cfg(not(unix))]
    pub async fn asked(&mut self) -> Stopped {
        // If it cannot be noticed, the process ends without being asked.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Stopped::Interrupted
    }
}
