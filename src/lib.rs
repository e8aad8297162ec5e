#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod clock;
mod key;
pub mod node;
mod proto;
mod time;
pub use crate::{clock::*, key::*, node::*, time::*};
#[derive(Debug)]
pub struct Limits;
