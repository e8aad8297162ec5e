//! The example `chat`, between two processes.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../examples/chat.rs"]
#[allow(dead_code, reason = "its `main` is not ours")]
mod chat;
#[path = "support/command.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod command;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use clap::Parser;
use command::{Running, lines};

/// Tells a process of this program that it is one of the chat, and with which arguments.
const ARGUMENTS: &str = "CHAT_ARGUMENTS";

/// One who chats, in a process of its own, and where others reach it.
fn start(arguments: &str) -> (Running, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_of_the_chat", "--nocapture"]);
    command.env(ARGUMENTS, arguments).stderr(Stdio::piped());
    let mut running = Running::spawn(command);
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

/// What the other test runs in processes of their own; without its arguments there is nothing to do.
#[tokio::test]
async fn a_process_of_the_chat() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        chat::run(chat::Arguments::parse_from(arguments.split(' '))).await.unwrap();
    }
}
