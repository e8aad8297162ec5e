//! The behaviour and its client in real swarms over TCP: each promise has a test of its own.

mod addresses;
mod admission;
mod clients;
mod keeping;
mod liars;
mod managers;
mod mixed;
mod repairs;
mod sharded;
mod silent;
mod upkeep;
mod values;
