//! Against reads: holders that lie, and others that ask the same holders.

mod boards;
mod holders;
mod steering;
