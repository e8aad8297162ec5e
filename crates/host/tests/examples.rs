//! The examples that run in several processes or handle signals.

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
use libp2p_smart_record::printable;
use rustix::process::Signal;
use smart_record_testing::process::{Running, lines};

/// Tells a process of this program its example and arguments.
const ARGUMENTS: &str = "EXAMPLE_ARGUMENTS";

/// An example in its own process.
fn example(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("a_process_of_{name}"), "--nocapture"]);
    command.env(ARGUMENTS, arguments).stderr(Stdio::piped());
    command
}

/// A chat in its own process, and its address.
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
fn two_chats_see_messages_arrivals_and_departures() {
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
fn a_chat_survives_a_refused_message_and_withdraws_its_name_at_ctrl_c() {
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
fn case_4_a_name_and_a_message_reach_a_terminal_as_one_safe_line() {
    let (ada, address) = start("chat --nick ada");
    let (nick, message) = ("b\u{1b}[2J\n\u{202e}", "\u{9b}31m\t\u{2066}hi");
    let (mut bob, _) = start(&format!("chat --nick {nick} {address}"));
    sees(&ada, &printable(&format!("* {nick} is here")).to_string());
    say(&mut bob, message);
    sees(&ada, &printable(&format!("{nick}: {message}")).to_string());
}

#[test]
fn messages_from_before_the_end_are_sent() {
    let (ada, address) = start("chat --nick ada");
    let (mut bob, _) = start(&format!("chat --nick bob {address}"));
    say(&mut bob, "bye");
    drop(bob.stdin.take());
    sees(&ada, "bob: bye");
    assert_eq!(bob.end(), Some(0));
}

#[test]
fn presence_is_withdrawn_at_ctrl_c_and_at_the_end_of_input() {
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

/// Runs in the processes of the other tests; without their arguments it does nothing.
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
