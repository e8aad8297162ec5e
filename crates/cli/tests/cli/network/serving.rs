//! What a node needs to be run: addresses, limits, metrics, private networks, a status line.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use futures::{StreamExt, future::join_all};
use libp2p::{
    Multiaddr, SwarmBuilder, noise,
    swarm::{SwarmEvent, dummy},
    tcp, yamux,
};
use smart_record_testing::process::lines;

use super::{ADA, KEY, NOBODY, Running, failure, json, names, peer, smart_record, start_node};

#[test]
fn case_3_a_name_stands_for_the_address_of_a_node() {
    let (_node, address) = start_node(&[], &[]);
    let [dns4, dns] =
        ["/dns4/localhost", "/dns/localhost"].map(|name| address.replace("/ip4/127.0.0.1", name));
    json(&["publish", KEY, ADA, "--connect", &dns4]);
    assert_eq!(names(&dns4), ["ada"]);
    assert_eq!(names(&dns), ["ada"]);
    let nowhere = address.replace("/ip4/127.0.0.1", "/dns4/nowhere.invalid");
    assert_eq!(failure(&["get", KEY, "--connect", &nowhere])["kind"], "unreachable");
}

#[test]
fn a_node_is_reached_through_the_relay_that_it_is_given() {
    let (_relay, at_relay) = start_node(&[], &["--serve-relay"]);
    let mut hidden = smart_record(&["node", "--relay", &at_relay]);
    hidden.stderr(Stdio::null());
    let hidden = Running::spawn(hidden);
    let at_hidden = hidden.until(|line| line.contains("/p2p-circuit/").then(|| line.to_owned()));
    assert!(at_hidden.starts_with(&at_relay), "{at_hidden}");
    json(&["publish", KEY, ADA, "--connect", &at_hidden]);
    assert_eq!(names(&at_hidden), ["ada"]);
    let relayed = json(&["get", KEY, "--connect", &at_hidden]);
    assert!(relayed["peers"].as_array().unwrap().contains(&peer(&at_hidden).into()), "{relayed}");
}

#[test]
fn a_node_that_is_told_to_find_out_whether_it_is_reached_serves_until_it_knows() {
    let external = ["--autonat", "--external", "/ip4/203.0.113.1/tcp/4001"];
    let (_node, address) = start_node(&[], &external);
    json(&["publish", KEY, ADA, "--connect", &address]);
    assert_eq!(names(&address), ["ada"]);
}

/// Case 22, and with it each interface of this machine.
#[test]
fn case_22_each_line_that_a_node_prints_can_be_connected_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("printed");
    let mut command = smart_record(&["node", "--connect", NOBODY]);
    command.args(["--listen", "/ip4/0.0.0.0/tcp/0", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1"]);
    // A machine may have no IPv6.
    if std::net::TcpListener::bind("[::]:0").is_ok() {
        command.args(["--listen", "/ip6/::/tcp/0", "--listen", "/ip6/::/udp/0/quic-v1"]);
    } else {
        smart_record_testing::skipped("there is no IPv6");
    }
    command.stdout(File::create(&file).unwrap()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The warning follows the addresses.
    let mut log = lines(child.stderr.take().unwrap()).into_iter();
    assert!(log.any(|line| line.contains("can reach this node")), "no warning");
    let printed = std::fs::read_to_string(&file).unwrap();
    assert!(printed.lines().count() >= 2, "{printed}");
    for line in printed.lines() {
        json(&["publish", KEY, ADA, "--connect", line]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Connects with a node under a new key, and stays silent as long as the connection lives.
async fn stays_silent(address: Multiaddr, connected: tokio::sync::mpsc::Sender<()>) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(std::time::Duration::from_secs(3_600))
        })
        .build();
    swarm.dial(address.clone()).unwrap();
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => connected.send(()).await.unwrap(),
            // A burst is too much for the node.
            SwarmEvent::OutgoingConnectionError { .. } => swarm.dial(address.clone()).unwrap(),
            _ => {}
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn case_20_silent_strangers_do_not_shut_a_node_off() {
    const STRANGERS: usize = 300;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 256; exec \"$0\" node", env!("CARGO_BIN_EXE_smart-record")]);
    let node = Running::spawn(command);
    let printed = node.line();
    let address: Multiaddr = printed.parse().unwrap();
    let (connected, mut all) = tokio::sync::mpsc::channel(STRANGERS);
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|_| tokio::spawn(stays_silent(address.clone(), connected.clone())))
        .collect();
    for _ in 0..STRANGERS {
        all.recv().await.unwrap();
    }
    let honest = move || {
        json(&["publish", KEY, ADA, "--connect", &printed]);
        assert_eq!(names(&printed), ["ada"]);
    };
    tokio::task::spawn_blocking(honest).await.unwrap();
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
    for ended in join_all(strangers).await {
        assert!(ended.unwrap_err().is_cancelled(), "each was there to the end");
    }
}

/// What a server of HTTP answers.
fn http_get(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_shows_its_metrics() {
    let mut command = smart_record(&["node", "--metrics", "127.0.0.1:0"]);
    command.stderr(Stdio::piped());
    let mut node = Running::spawn(command);
    let noted = lines(node.child.stderr.take().unwrap()).recv().unwrap();
    let url = noted.strip_prefix("metrics: ").unwrap();
    let address = node.line();
    assert!(http_get(url).contains("smart_record_store_admitted_updates_total 0"));
    json(&["publish", KEY, ADA, "--connect", &address]);
    let answer = http_get(url);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("smart_record_store_admitted_updates_total 1"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");

    let taken = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let failure = failure(&["node", "--metrics", taken]);
    assert_eq!(failure["kind"], "failed");
    assert!(failure["message"].as_str().unwrap().contains(taken), "{failure}");
}

#[test]
fn a_node_logs_what_its_operator_should_look_into() {
    let mut command = smart_record(&["node", "--connect", NOBODY]);
    command.env_remove("RUST_LOG").stderr(Stdio::piped());
    let mut node = Running::spawn(command);
    let mut log = lines(node.child.stderr.take().unwrap()).into_iter();
    let warning = log.find(|line| line.contains("no peer can be reached")).unwrap();
    assert!(warning.contains("WARN") && !warning.contains('\x1b'), "{warning:?}");
}

#[test]
fn a_private_network_takes_those_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str, digit: &str| {
        let file = folder.path().join(name);
        let digits = digit.repeat(64);
        std::fs::write(&file, format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n")).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (ours, theirs) = (key("ours", "a"), key("theirs", "b"));
    let (_node, address) = start_node(&[], &["--network-key", &ours]);
    let get = ["get", KEY, "--connect", &address];
    json(&["publish", KEY, ADA, "--connect", &address, "--network-key", &ours]);
    json(&[&get[..], &["--network-key", &ours]].concat());
    assert_eq!(failure(&get)["kind"], "unreachable");
    assert_eq!(failure(&[&get[..], &["--network-key", &theirs]].concat())["kind"], "unreachable");
}
