//! Metrics over HTTP, as Prometheus reads them.
//!
//! The smallest server that does: one request a connection, of which only the first line counts.
//!
//! **Invariants.** Memory and time of a connection are bounded, and so is the number of connections
//! at a time.
//!
//! **Spec.** [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112),
//! [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::failure::Failure;

/// Longest head of a request. A guess: that of Prometheus has some 300 bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Longest time for a request and its response. A guess.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections at a time. A guess: one or two scrape a node.
const MAX_CONNECTIONS: usize = 8;

/// Media type of the text that `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A server of the metrics in a registry.
pub struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
    registry: Arc<Registry>,
}

impl MetricsServer {
    pub async fn bind(address: SocketAddr, registry: Registry) -> Result<Self, Failure> {
        let failed = |source| Failure::Metrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, registry: Arc::new(registry) })
    }

    /// The address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until it is dropped.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let registry = self.registry.clone();
                    tokio::spawn(async move {
                        // Whoever asked has gone or is too slow.
                        let _ = timeout(TIMEOUT, answer(stream, &registry)).await;
                        drop(place);
                    });
                }
                // No file is left, most likely.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn answer(mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let response = respond(&head, registry);
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads up to the empty line that ends the head of a request, and no more than [`MAX_HEAD`].
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut stream = stream.take(MAX_HEAD as u64);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && stream.read_buf(&mut head).await? > 0 {}
    Ok(head)
}

fn respond(head: &[u8], registry: &Registry) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
    let mut text = String::new();
    let (status, kind) = match (method, path) {
        _ if !is_http => ("400 Bad Request", "text/plain"),
        (b"GET" | b"HEAD", b"/metrics") => match encode(&mut text, registry) {
            Ok(()) => ("200 OK", OPEN_METRICS),
            Err(_) => ("500 Internal Server Error", "text/plain"),
        },
        (b"GET" | b"HEAD", _) => ("404 Not Found", "text/plain"),
        _ => ("405 Method Not Allowed\r\nAllow: GET, HEAD", "text/plain"),
    };
    let length = text.len();
    let body = if method == b"HEAD" { "" } else { &text };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metrics_can_be_read() {
        let registry = Registry::default();
        for (head, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /metrics?x=y HTTP/1.0\r\n\r\n", "200 OK"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics", "400 Bad Request"),
            ("\0\x1b]0;\u{7}", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            let response = respond(head.as_bytes(), &registry);
            assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}: {response}");
            let body = response.split("\r\n\r\n").nth(1).unwrap();
            let is_full = status == "200 OK" && !head.starts_with("HEAD");
            assert_eq!(!body.is_empty(), is_full, "{head}: {response}");
        }
    }
}
