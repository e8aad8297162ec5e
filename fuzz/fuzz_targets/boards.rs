//! A board on three replicas with few slots: answers show what they cover, reads that call
//! themselves complete are, and what was replaced is never visible again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use libp2p_smart_record_fuzz::boards::{Boards, Step};

fuzz_target!(|steps: Vec<Step>| {
    let mut boards = Boards::default();
    steps.iter().take(40).for_each(|step| boards.run(step));
});
