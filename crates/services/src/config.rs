//! Settings of a service.
//!
//! **Invariants.** Every bound has a default, so requests cause a bounded number of checks and
//! writes in any time.

use std::time::Duration;

use libp2p_smart_record::settings;

/// The settings of a [`Service`](super::Service).
///
/// ```
/// use std::time::Duration;
/// use smart_record_services::ServiceConfig;
///
/// let config = ServiceConfig::default().with_ttl(Duration::from_secs(300)).with_concurrency(2);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    ttl: Duration,
    concurrency: usize,
    check_timeout: Duration,
    check_interval: Duration,
    check_burst: u32,
    writer_interval: Duration,
    writer_burst: u32,
    max_requests: usize,
    max_waiting: usize,
    max_waiting_of_writer: usize,
    max_of_record: usize,
    max_of_writer: usize,
    max_request_bytes: usize,
    write_delay: Duration,
    write_interval: Duration,
    write_burst: u32,
    max_records: usize,
    scan_interval: Duration,
    sweep_interval: Duration,
    max_events: usize,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30 * 60),
            concurrency: 8,
            check_timeout: Duration::from_secs(30),
            check_interval: Duration::from_secs(1),
            check_burst: 16,
            writer_interval: Duration::from_secs(60),
            writer_burst: 8,
            max_requests: 1_024,
            max_waiting: 256,
            max_waiting_of_writer: 8,
            max_of_record: 16,
            max_of_writer: 4,
            max_request_bytes: 320,
            write_delay: Duration::from_millis(500),
            write_interval: Duration::from_secs(2),
            write_burst: 16,
            max_records: 512,
            scan_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(60 * 60),
            max_events: 256,
        }
    }
}

impl ServiceConfig {
    /// The last quarter of a finding's life, in which its request is checked again.
    pub(super) fn last_quarter(&self) -> Duration {
        self.ttl.checked_div(4).unwrap_or_default()
    }
}

settings! { ServiceConfig:
    /// Lifetime of a finding. The request is checked again after three quarters of it, as long as a
    /// record makes it. Defaults to 30 minutes, a guess.
    ttl, with_ttl: Duration;
    /// Most checks at a time. Defaults to 8, the number of addresses that a swarm dials at once.
    concurrency, with_concurrency: usize;
    /// Longest duration of a check, after which its outcome is `Unknown`. It matters for your own
    /// tags: a dial ends sooner, see [`DialPolicy::timeout`](super::DialPolicy::timeout). Defaults
    /// to 30 seconds.
    check_timeout, with_check_timeout: Duration;
    /// Average time between two checks, in total. Defaults to a second, a guess; with the other
    /// defaults 1,024 requests take 1,024 checks in 22 minutes.
    check_interval, with_check_interval: Duration;
    /// Most checks at once after a pause. Defaults to 16.
    check_burst, with_check_burst: u32;
    /// Average time between two checks for the same writer, and between two writes of findings for
    /// it. The two are counted apart. Defaults to a minute, a guess.
    writer_interval, with_writer_interval: Duration;
    /// Most checks, and most writes, at once for the same writer after a pause. Defaults to 8.
    writer_burst, with_writer_burst: u32;
    /// Most requests remembered, over all records. Beyond it, requests with the oldest findings are
    /// forgotten first; they are read again when their record changes. Defaults to 1,024, some 1
    /// MB.
    max_requests, with_max_requests: usize;
    /// Most requests that wait for their first check; further ones are refused. Defaults to 256.
    max_waiting, with_max_waiting: usize;
    /// Most requests of the same writer that wait for their first check. Defaults to 8.
    max_waiting_of_writer, with_max_waiting_of_writer: usize;
    /// Most requests of a record that are answered at a time. The first ones stay until half of
    /// their finding's life is over; then others may replace them. Defaults to 16. With their
    /// findings they take at most 4,800 bytes, whatever their number, so that the renewed findings
    /// fit into a space of 8 KiB beside the previous ones.
    max_of_record, with_max_of_record: usize;
    /// Most requests of a record by the same writer. Defaults to 4.
    max_of_writer, with_max_of_writer: usize;
    /// Most bytes of a request, encoded. Defaults to 320, with which several findings fit into an
    /// update; an IPv6 address over QUIC with a peer id takes some 160.
    max_request_bytes, with_max_request_bytes: usize;
    /// Time that a finding waits for others in the same record, to be published with them. Defaults
    /// to half a second.
    write_delay, with_write_delay: Duration;
    /// Average time between two writes of findings, in total. Defaults to two seconds, a guess;
    /// with the other defaults 512 records take 512 writes in 22 minutes.
    write_interval, with_write_interval: Duration;
    /// Most writes at once after a pause. Defaults to 16.
    write_burst, with_write_burst: u32;
    /// Most records in which findings live or wait to be written; findings for further records are
    /// not published. Each record takes one of the node's own spaces, which its store protects.
    /// Defaults to 512, of 8,192 protected spaces
    /// ([`StoreConfig::protected_quota`](libp2p_smart_record::store::StoreConfig::protected_quota)).
    max_records, with_max_records: usize;
    /// Shortest time between two scans of a record for requests, however often it changes. Defaults
    /// to a second.
    scan_interval, with_scan_interval: Duration;
    /// Time between two sweeps, each of which scans the whole store for requests that were stored
    /// before the service began or that it could not take. The first sweep begins at once. Defaults
    /// to an hour.
    sweep_interval, with_sweep_interval: Duration;
    /// Most events that wait to be taken; further ones are lost. Defaults to 256.
    max_events, with_max_events: usize;
}
