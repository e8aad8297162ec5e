//! Instants and wall-clock times in virtual time, in place of the crate of this name and version.

mod arithmetic;
mod instant;
mod system_time;

pub use std::time::{Duration, TryFromFloatSecsError};

pub use self::{
    instant::Instant,
    system_time::{SystemTime, SystemTimeError, UNIX_EPOCH},
};
