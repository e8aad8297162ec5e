//! The examples that people use from several processes, or stop.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[path = "../examples/chat.rs"]
#[allow(dead_code, reason = "its `main` is not ours")]
mod chat;
#[path = "../examples/presence.rs"]
#[allow(dead_code, reason = "its `main` is not ours")]
mod presence;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use clap::Parser;
use rustix::process::Signal;
use smart_record_testing::process::{Running, lines};

/// Tells a process of this program which example it is, and with which arguments.
const ARGUMENTS: &str = "EXAMPLE_ARGUMENTS";

/// An example in a process of its own.
fn example(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("a_process_of_{name}"), "--nocapture"]);
    command.env(ARGUMENTS, arguments).stderr(Stdio::piped());
    command
}

/// One who chats, in a process of its own, and where others reach it.
fn start(arguments: &str) -> (Running, String) {
    let mut running = Running::spawn(example("the_chat", arguments));
    let address = lines(running.child.stderr.take().unwrap()).recv().unwrap();
    (running, address)
}

fn say(who: &mut Running, line: &str) {
    writeln!(who.stdin.as_mut().unwrap(), "{line}").unwrap();
}

fn sees(who: &Running, wanted: &str) {
    who.until(|line| line.contains(wanted).then_some(()));
}

#[test]
fn two_processes_see_each_other_and_what_each_says_and_that_one_has_left() {
    let (mut ada, address) = start("chat --nick ada");
    let (mut bob, _) = start(&format!("chat --nick bob {address}"));
    sees(&bob, "* ada is here");
    sees(&ada, "* bob is here");
    say(&mut ada, "hello, bob");
    sees(&bob, "ada: hello, bob");
    say(&mut bob, "hello, ada");
    sees(&ada, "bob: hello, ada");
    // Ctrl-D.
    drop(bob.stdin.take());
    assert_eq!(bob.end(), Some(0));
    sees(&ada, "* bob has left");
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_chat_goes_on_until_ctrl_c_and_the_name_is_gone() {
    let (mut ada, address) = start("chat --nick ada");
    let (bob, _) = start(&format!("chat --nick bob {address}"));
    sees(&bob, "* ada is here");
    say(&mut ada, &"x".repeat(3 * 1_024));
    say(&mut ada, "where was I?");
    sees(&bob, "ada: where was I?");
    assert_eq!(ada.stop(Signal::INT), Some(0));
    sees(&bob, "* ada has left");
}

#[test]
fn what_was_said_before_the_end_is_sent() {
    let (ada, address) = start("chat --nick ada");
    let (mut bob, _) = start(&format!("chat --nick bob {address}"));
    say(&mut bob, "bye");
    drop(bob.stdin.take());
    sees(&ada, "bob: bye");
    assert_eq!(bob.end(), Some(0));
}

#[test]
fn presence_is_withdrawn_at_ctrl_c_and_at_the_end_of_the_input() {
    for by_signal in [true, false] {
        let mut alice = Running::spawn(example("presence", "presence"));
        sees(&alice, " until 2");
        sees(&alice, "until you press Enter");
        if by_signal {
            alice.signal(Signal::INT);
        } else {
            drop(alice.stdin.take());
        }
        sees(&alice, "is nowhere");
        assert_eq!(alice.end(), Some(0));
    }
}

/// What the other tests run in processes of their own; without their arguments there is nothing to do.
#[tokio::test]
async fn a_process_of_the_chat() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        chat::run(chat::Arguments::parse_from(arguments.split(' '))).await.unwrap();
    }
}

/// As [`a_process_of_the_chat`].
#[tokio::test]
async fn a_process_of_presence() {
    if std::env::var(ARGUMENTS).is_ok() {
        presence::run().await.unwrap();
    }
}
