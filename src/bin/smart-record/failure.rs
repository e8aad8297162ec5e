//! How commands fail: what to do about it, and the exit code, which is in the help for scripts.

use std::process::ExitCode;

/// What scripts tell apart; anything else is 1, and a wrong argument 2.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("there is nothing under {0}: check the key, or whether it has expired")]
    NotFound(String),
    #[error("no peer could be reached: check the address of --connect, and whether its node runs")]
    Unreachable,
    #[error("nobody to talk to: give --connect the address that `smart-record node` prints")]
    NoAddress,
    #[error("whose space? Give --key the file of the key that it was written with")]
    NoKey,
}

impl Failure {
    /// The code for an error, whatever it is.
    pub fn code(error: &anyhow::Error) -> ExitCode {
        ExitCode::from(match error.downcast_ref::<Self>() {
            Some(Self::NoAddress | Self::NoKey) => 2,
            Some(Self::NotFound(_)) => 3,
            Some(Self::Unreachable) => 4,
            None => 1,
        })
    }
}
