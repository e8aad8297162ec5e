//! The example `key_value`: a program made for libp2p's `MemoryStore`, with the store of this crate
//! in its place.

use futures::channel::mpsc;
use libp2p::{Multiaddr, futures::StreamExt};

use crate::nodes::within;

#[path = "../../examples/key_value.rs"]
#[allow(dead_code, reason = "its `main` is not run")]
mod example;

/// A node of the example: what is typed into it, and what it prints.
struct Node {
    keyboard: Option<mpsc::UnboundedSender<String>>,
    screen: mpsc::UnboundedReceiver<String>,
    address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(others: &[&Node]) -> Self {
        let (keyboard, commands) = mpsc::unbounded();
        let (screen, printed) = mpsc::unbounded();
        let others: Vec<Multiaddr> = others.iter().map(|o| o.address.parse().unwrap()).collect();
        let task = tokio::spawn(async move {
            let print = move |line| screen.unbounded_send(line).unwrap();
            example::run(others, commands, print).await.unwrap();
        });
        let mut node =
            Self { keyboard: Some(keyboard), screen: printed, address: String::new(), task };
        node.address = node.screen.next().await.unwrap();
        node
    }

    /// Types a line and returns the next printed line.
    async fn types(&mut self, line: &str) -> String {
        self.keyboard.as_ref().unwrap().unbounded_send(line.to_owned()).unwrap();
        self.screen.next().await.unwrap()
    }

    /// Closes the input and waits for the node to end.
    async fn ends(mut self) {
        drop(self.keyboard.take());
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn case_30_plain_keys_are_put_and_found_as_with_the_memory_store() {
    within(async {
        let ada = &mut Node::start(&[]).await;
        assert_eq!(ada.types("GET foo").await, "foo is not found");
        assert_eq!(ada.types("PUT foo bar").await, "foo is stored here and nowhere else");
        assert_eq!(ada.types("GET foo").await, "foo is bar");

        let mut bob = Node::start(&[ada]).await;
        assert_eq!(bob.types("GET foo").await, "foo is bar");
        assert_eq!(bob.types("PUT foo baz and more").await, "foo is stored");
        assert_eq!(ada.types("GET foo").await, "foo is baz and more");
        for key in ["/", "/a", "/a/b", "ключ", "/sr"] {
            assert_eq!(bob.types(&format!("PUT {key} 1")).await, format!("{key} is stored"));
            assert_eq!(ada.types(&format!("GET {key}")).await, format!("{key} is 1"));
        }
        assert_eq!(bob.types("PROVIDE film").await, "film is provided");
        let peer = bob.address.rsplit('/').next().unwrap().to_owned();
        assert_eq!(ada.types("PROVIDERS film").await, format!("film is provided by {peer}"));
        bob.ends().await;
    })
    .await;
}

#[tokio::test]
async fn case_4_a_value_of_a_stranger_is_printed_as_one_safe_line() {
    within(async {
        let ada = &mut Node::start(&[]).await;
        let mut bob = Node::start(&[ada]).await;
        assert_eq!(bob.types("PUT foo a\u{1b}[2J\n\u{202e}b").await, "foo is stored");
        assert_eq!(ada.types("GET foo").await, r"foo is a\x1b[2J\x0a\xe2\x80\xaeb");
        bob.ends().await;
    })
    .await;
}

/// Siblings of case 30: a refusal by the store does not end the node.
#[tokio::test]
async fn case_30_a_refusal_is_an_error_and_the_node_goes_on() {
    within(async {
        let mut node = Node::start(&[]).await;
        let refused = node.types("PUT /sr/room hello").await;
        assert!(refused.starts_with("PUT /sr/room hello: "), "{refused}");
        let refused = node.types(&format!("PUT large {}", "x".repeat(65 * 1_024))).await;
        assert!(refused.contains("too large"), "{refused}");
        assert!(node.types("PUT foo").await.contains("use PUT KEY VALUE"));
        assert!(node.types("").await.contains("use PUT KEY VALUE"));
        assert_eq!(node.types("PUT foo bar").await, "foo is stored here and nowhere else");
        assert_eq!(node.types("GET foo").await, "foo is bar");
        node.ends().await;
    })
    .await;
}
