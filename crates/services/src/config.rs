//! How much a service does.
//!
//! **Invariants.** Every bound has a default, so whatever is asked costs a bounded number of checks and of writes in any
//! time.

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
    /// How long a finding lives. It is checked again, and published anew, when three quarters of that are over, as long as
    /// it is still asked for. Defaults to 30 minutes, a guess.
    ttl, with_ttl: Duration;
    /// How many checks are under way at a time. Defaults to 8, which is how many addresses a swarm dials at once.
    concurrency, with_concurrency: usize;
    /// How long a check may take before it is given up, with nothing found. For checks of one's own: a dial ends sooner,
    /// see [`DialPolicy::timeout`](super::DialPolicy::timeout). Defaults to 30 seconds.
    check_timeout, with_check_timeout: Duration;
    /// How long from one check to the next on average, all together. Defaults to a second, a guess; with the other
    /// defaults 1,024 requests take 1,024 checks in 22 minutes.
    check_interval, with_check_interval: Duration;
    /// How many checks are made at once after a pause. Defaults to 16.
    check_burst, with_check_burst: u32;
    /// How long from one check to the next on average, of those asked for by the same writer; and from one write of findings
    /// to the next, which is counted by itself. Defaults to a minute, a guess.
    writer_interval, with_writer_interval: Duration;
    /// How many of these at once after a pause. Defaults to 8.
    writer_burst, with_writer_burst: u32;
    /// How many requests are remembered, over all records. Of more, those whose finding is oldest go first, and ask
    /// anew when their record changes. Defaults to 1,024, some 1 MB.
    max_requests, with_max_requests: usize;
    /// How many requests wait for their first check; the newest are refused. Defaults to 256.
    max_waiting, with_max_waiting: usize;
    /// How many of these for the same writer. Defaults to 8.
    max_waiting_of_writer, with_max_waiting_of_writer: usize;
    /// How many requests of one record are answered at a time; those that came first, until others may have their turn when
    /// half of a finding's life is over. Defaults to 16. With their findings they take no more than 4,800 bytes,
    /// whatever their number, so that those of the next run fit into a space of 8 KiB before these go.
    max_of_record, with_max_of_record: usize;
    /// How many of these by the same writer. Defaults to 4.
    max_of_writer, with_max_of_writer: usize;
    /// How long a request is, encoded. Defaults to 320, with which a finding fits several times into an update; an IPv6 address
    /// over QUIC with a peer id takes some 160.
    max_request_bytes, with_max_request_bytes: usize;
    /// How long findings wait for others in the same record, so that they go out together. Defaults to half a second.
    write_delay, with_write_delay: Duration;
    /// How long from one write of findings to the next on average, all together. Defaults to two seconds, a guess; with the
    /// other defaults 512 records take 512 writes in 22 minutes.
    write_interval, with_write_interval: Duration;
    /// How many writes at once after a pause. Defaults to 16.
    write_burst, with_write_burst: u32;
    /// In how many records findings live at a time, or wait to be written; those that would be in more are not published.
    /// Each takes one of the spaces that are protected in the store because they are its node's own. Defaults to 512, of 8,192
    /// such spaces ([`StoreConfig::protected_quota`](libp2p_smart_record::store::StoreConfig::protected_quota)).
    max_records, with_max_records: usize;
    /// How long after a record was looked through for requests it is again, however often it changes. Defaults to a second.
    scan_interval, with_scan_interval: Duration;
    /// How often all of the store is gone through, for what was stored before the service began or while it could not keep
    /// up; the first time at once. Defaults to an hour.
    sweep_interval, with_sweep_interval: Duration;
    /// How many events wait to be taken; further ones are lost. Defaults to 256.
    max_events, with_max_events: usize;
}
