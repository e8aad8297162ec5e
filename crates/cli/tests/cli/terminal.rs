//! Output on a terminal and elsewhere.

use std::{
    fs::File,
    io::Read,
    net::TcpListener,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use crate::command::{json, smart_record, start_node};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

const KEY: &str = "/sr/cli/board";

/// A terminal: our end, and that of a process.
fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&theirs, size).unwrap();
    (ours.into(), theirs.into())
}

/// Output of a command on a terminal.
fn on_a_terminal(mut command: Command) -> String {
    let (mut ours, theirs) = terminal();
    let mut child = command.stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    // The command holds the other end; reading ends once all copies are closed.
    drop(command);
    let mut shown = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = ours.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(shown).unwrap()
}

fn get(address: &str) -> Command {
    let mut command = smart_record(&["get", KEY, "--connect", address]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command
}

#[test]
fn a_terminal_gets_a_table_in_colour_unless_no_color_is_set() {
    let (_node, address) = start_node(&[], &[]);
    json(&["publish", KEY, r#"{"name": "ada"}"#, "--connect", &address]);

    let shown = on_a_terminal(get(&address));
    assert!(shown.contains("─") && shown.contains("expires in"), "a table: {shown}");
    assert!(shown.contains("\x1b["), "colour: {shown:?}");

    let mut colourless = get(&address);
    colourless.env("NO_COLOR", "1");
    let shown = on_a_terminal(colourless);
    assert!(shown.contains("─"), "a table: {shown}");
    assert!(!shown.contains('\x1b'), "no colour: {shown:?}");

    let piped = get(&address).output().unwrap();
    let shown = String::from_utf8(piped.stdout).unwrap();
    assert!(!shown.contains("─") && !shown.contains('\x1b'), "neither: {shown:?}");

    let mut machine = get(&address);
    machine.arg("--json");
    let shown = on_a_terminal(machine);
    assert!(shown.starts_with('{') && !shown.contains('\x1b'), "JSON stays JSON: {shown:?}");
}

#[test]
fn slow_work_shows_progress_on_a_terminal() {
    // A peer that accepts connections and stays silent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let peer = crate::command::NOBODY.rsplit('/').next().unwrap();
    let (mut ours, theirs) = terminal();
    let mut command = get(&format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}"));
    command.stdout(Stdio::null()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut shown, mut buffer) = (String::new(), [0; 4_096]);
    while !shown.contains("reading") {
        let read = ours.read(&mut buffer).expect("it shows something before it ends");
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_search_for_a_stamp_shows_on_a_terminal_how_far_it_is() {
    let (mut ours, theirs) = terminal();
    let nobody = crate::command::NOBODY;
    let mut command = smart_record(&["publish", KEY, "{}", "--work", "40", "--connect", nobody]);
    command.stdout(Stdio::null()).stderr(theirs).env("TERM", "xterm-256color");
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut shown, mut buffer) = (String::new(), [0; 4_096]);
    while !shown.contains("of some 1,099,511,627,776 tries") {
        let read = ours.read(&mut buffer).expect("it shows something before it ends");
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_node_shows_on_a_terminal_what_it_does() {
    let (mut ours, theirs) = terminal();
    let mut command = smart_record(&["node"]);
    command.stdout(Stdio::null()).stderr(theirs).env("TERM", "xterm-256color");
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut shown, mut buffer) = (String::new(), [0; 4_096]);
    while !shown.contains("server; 0 of 0 known peers connected; 0 records") {
        let read = ours.read(&mut buffer).expect("it shows something before it ends");
        shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
