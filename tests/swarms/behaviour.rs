//! The behaviour and its client in real swarms over TCP, one test for each documented property.

mod addresses;
mod admission;
mod clients;
mod keeping;
mod large;
mod liars;
mod managers;
mod mixed;
mod repairs;
mod sharded;
mod silent;
/// Only Linux has all of 127/8 at its loopback interface.
#[cfg(target_os = "linux")]
mod subnets;
mod unpolled;
mod upkeep;
mod values;
