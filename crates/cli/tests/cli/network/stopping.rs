//! Stopping by Ctrl-C and by SIGTERM.

use rustix::process::Signal;

use super::{KEY, Running, failure, json, smart_record, start_node};

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
fn a_stopped_demo_says_so() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = smart_record(&["demo"]);
        command.stderr(std::process::Stdio::piped());
        let mut demo = Running::spawn(command);
        // Once it prints its steps, it listens for signals.
        let log = smart_record_testing::process::lines(demo.child.stderr.take().unwrap());
        log.recv().unwrap();
        assert_eq!(demo.stop(signal), Some(code), "{signal:?}");
        assert!(log.iter().any(|line| line == "interrupted"));
    }
}
