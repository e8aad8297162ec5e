//! Real nodes in virtual time, over a network in memory.
