//! Stopping by Ctrl-C and by SIGTERM.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

use rustix::process::Signal;
use smart_record_testing::{process::lines, skipped};

use super::{KEY, NOBODY, Running, failure, json, smart_record, start_node};

#[test]
fn a_node_and_a_watch_end_at_a_stop_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let (node, address) = start_node(&[], &[]);
        let watch = Running::spawn(smart_record(&["watch", KEY, "--connect", &address]));
        assert!(watch.line().contains("nothing under"));
        assert_eq!(watch.stop(signal), Some(0), "{signal:?}");
        assert_eq!(node.stop(signal), Some(0), "{signal:?}");
    }
}

#[test]
fn a_node_that_waits_for_a_relay_to_listen_through_ends_at_a_stop_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        // A relay that accepts connections and stays silent.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, peer) =
            (silent.local_addr().unwrap().port(), NOBODY.rsplit('/').next().unwrap());
        let relay = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}/p2p-circuit");
        let node = Running::spawn(smart_record(&["node", "--listen", &relay]));
        let _accepted = silent.accept().unwrap();
        assert_eq!(node.stop(signal), Some(0), "{signal:?}");
    }
}

/// Runs where unprivileged processes may make a network of their own, in which nothing is up.
#[test]
fn a_node_starts_where_no_address_is_and_ends_at_a_stop_signal() {
    let alone = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", program]);
        command
    };
    if !alone("true").output().is_ok_and(|run| run.status.success()) {
        return skipped("no network of its own can be made (`unshare`)");
    }
    for address in ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1"] {
        let mut command = alone(env!("CARGO_BIN_EXE_smart-record"));
        command.args(["node", "--connect", NOBODY, "--listen", address]);
        command.stderr(Stdio::piped());
        let mut node = Running::spawn(command);
        let mut log = lines(node.child.stderr.take().unwrap()).into_iter();
        assert!(log.any(|line| line.contains("no address to listen on")), "{address}: no warning");
        assert!(log.any(|line| line.contains("can reach this node")), "{address}: not started");
        assert_eq!(node.stop(Signal::TERM), Some(0));
    }
}

#[test]
fn a_client_is_present_until_a_stop_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let (_node, address) = start_node(&[], &[]);
        let hex = "09".repeat(32);
        let mut announce = smart_record(&["presence", "announce", "--connect", &address]);
        announce.args(["--presence-key", &hex, "--handshake-key", &hex, "--json"]);
        let announce = Running::spawn(announce);
        let announced: serde_json::Value = serde_json::from_str(&announce.line()).unwrap();
        let client = announced["client"].as_str().unwrap();
        let find = ["presence", "find", client, "--connect", &address];
        assert_eq!(json(&find), announced);
        let key = format!("/presence/{client}/");
        let get = json(&["get", &key, "--connect", &address]);
        assert_eq!(get["announcements"][0], announced);

        assert_eq!(announce.stop(signal), Some(0), "{signal:?}");
        assert_eq!(failure(&find)["kind"], "not-found", "it was withdrawn");
    }
}

#[test]
fn an_announcement_that_nobody_has_taken_when_it_is_stopped_is_a_failure() {
    for signal in [Signal::INT, Signal::TERM] {
        let hex = "09".repeat(32);
        let mut announce = smart_record(&["presence", "announce", "--connect", NOBODY]);
        announce.args(["--presence-key", &hex, "--handshake-key", &hex]);
        announce.stderr(Stdio::piped());
        let mut announce = Running::spawn(announce);
        let mut log = lines(announce.child.stderr.take().unwrap()).into_iter();
        assert!(log.any(|line| line.contains("trying again")), "no warning");
        assert_eq!(announce.stop(signal), Some(4), "{signal:?}");
        assert!(log.any(|line| line.contains("no peer could be reached")), "{signal:?}");
    }
}

#[test]
fn a_stopped_demo_says_so() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = smart_record(&["demo"]);
        command.stderr(Stdio::piped());
        let mut demo = Running::spawn(command);
        // Once it prints its steps, it listens for signals.
        let log = lines(demo.child.stderr.take().unwrap());
        log.recv().unwrap();
        assert_eq!(demo.stop(signal), Some(code), "{signal:?}");
        assert!(log.iter().any(|line| line == "interrupted"));
    }
}

#[test]
fn a_search_for_a_stamp_ends_at_a_stop_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let publish = ["publish", KEY, "{}", "--work", "40", "--connect", NOBODY];
        let search = Running::spawn(smart_record(&publish));
        assert_eq!(search.stop(signal), None, "{signal:?} ended it");
    }
}
