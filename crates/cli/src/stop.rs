//! Stop signals: Ctrl-C, and SIGTERM as a service manager or `kill` sends it.
//!
//! **Invariants.** From [`Stop::new`] on these signals do not end the process; the owner of the
//! [`Stop`] has to.

use std::{io, process::ExitCode};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal that stopped the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    #[cfg(unix)]
    Terminated,
}

impl Stopped {
    /// The exit code that a shell expects of an interrupted command.
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Interrupted => 130,
            #[cfg(unix)]
            Self::Terminated => 143,
        })
    }
}

/// Listener for stop signals.
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

    /// Waits for the next stop signal.
    #[cfg(unix)]
    pub async fn asked(&mut self) -> Stopped {
        tokio::select! {
            _ = self.interrupt.recv() => Stopped::Interrupted,
            _ = self.terminate.recv() => Stopped::Terminated,
        }
    }

    /// Waits for the next stop signal.
    #[cfg(not(unix))]
    pub async fn asked(&mut self) -> Stopped {
        // Without a handler the signal ends the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Stopped::Interrupted
    }
}
