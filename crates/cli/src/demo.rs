//! `smart-record demo`: a DHT in one process, with each node as a swarm of its own over real TCP.
//!
//! Each step states a promise and checks it. The demo fails at the first promise that does not
//! hold.

mod attacks;
mod nodes;
mod report;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::{join_all, try_join_all};
use libp2p::{PeerId, identity::Keypair, kad};
use libp2p_smart_record::{
    Clock, Dict, Fault, Node, RecordKey, SmartRecord, SystemClock, Timestamp, View, Writer,
};
use serde::Serialize;
use smart_record_host::Host;

use self::report::DemoReport;
use crate::{
    failure::Failure,
    output::{Format, print, say},
    stop::Stop,
};

/// Lifetime of the writers' documents.
const TTL: Duration = Duration::from_secs(600);
/// Lifetime of the short-lived node of a document.
const SHORT_TTL: Duration = Duration::from_secs(3);
/// Name of the writers, before their number.
const NAME: &str = "writer ";
/// Most reads until all replicas are repaired.
const REPAIRS: usize = 10;
/// Longest duration of joining, and of all steps together.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(clap::Args)]
pub struct Arguments {
    /// Number of nodes of the DHT, from 3 to 64. Each connects to all others, so many nodes take
    /// long, most of all in a debug build.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(3..=64))]
    nodes: u16,
    /// Number of nodes that write, at least 2. At least one node only reads.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=63))]
    writers: u16,
}

impl Arguments {
    fn check(&self) -> Result<(), Failure> {
        let Self { nodes, writers } = *self;
        if writers < nodes {
            return Ok(());
        }
        let most = nodes.saturating_sub(1);
        Err(Failure::Arguments {
            message: format!(
                "--writers {writers} leaves none of {nodes} nodes to read only; use at most --writers {most}"
            ),
            hint: "or give more --nodes",
        })
    }
}

/// Runs the demo. Steps go to standard error, and with JSON its summary goes to standard output.
pub async fn run(arguments: Arguments, format: Format) -> Result<ExitCode> {
    arguments.check()?;
    let mut stop = Stop::new()?;
    let report = DemoReport::new(format);
    tokio::select! {
        result = Demo::play(&arguments, &report, format) => result.map(|()| ExitCode::SUCCESS),
        stopped = stop.asked() => {
            report.clear();
            say("interrupted");
            Ok(stopped.code())
        }
    }
}

/// Results so far; steps that have not run are zero or false.
#[derive(Debug, Default, Serialize)]
struct Summary {
    nodes: usize,
    writers: usize,
    spaces_read: usize,
    spaces_after_loss: usize,
    converged: bool,
    attacks_sent: usize,
    attacks_accepted: usize,
    expired_visible: usize,
    seconds: f64,
}

/// State of the demo.
struct Demo {
    key: RecordKey,
    /// The first is the bootstrap node, then come the writers; the last one never writes.
    nodes: Vec<Host>,
    writers: Vec<Writer>,
    /// The peers closest to the key, closest first.
    replicas: Vec<PeerId>,
    /// The second writer's space before its withdrawal.
    withdrawn: Option<SmartRecord>,
    summary: Summary,
}

impl Demo {
    /// Runs all steps, and prints the summary whether or not all of them held.
    async fn play(arguments: &Arguments, report: &DemoReport, format: Format) -> Result<()> {
        let started = Instant::now();
        let (nodes, writers) = (usize::from(arguments.nodes), usize::from(arguments.writers));
        let mut demo = Self::start(nodes, writers, report).await?;
        let outcome = within("the demo", demo.steps(report)).await;
        demo.summary.seconds = (started.elapsed().as_secs_f64() * 100.0).round() / 100.0;
        report.clear();
        if format.is_json() {
            print(&serde_json::to_string(&demo.summary)?)?;
        } else if outcome.is_ok() {
            print(&format!("\nEverything held, in {:.1} s.", demo.summary.seconds))?;
        }
        outcome
    }

    async fn steps(&mut self, report: &DemoReport) -> Result<()> {
        self.publish(report).await?;
        self.first_read(report).await?;
        self.merge(report).await?;
        self.withdraw(report).await?;
        self.expire(report).await?;
        attacks::run(self, report).await?;
        self.lose_nodes(report).await?;
        self.converge(report).await?;
        let expired = self.summary.expired_visible;
        ensure!(expired == 0, "{expired} nodes of documents were visible after they had expired");
        Ok(())
    }

    async fn start(count: usize, writers: usize, report: &DemoReport) -> Result<Self> {
        let step = report.step(format!("Starting {count} nodes on loopback TCP"));
        let key = RecordKey::new("/sr/demo/board");
        let fresh = Keypair::generate_ed25519;
        let first = nodes::start(fresh(), None).await?;
        let address = nodes::address(&first).await?;
        let rest = (1..count).map(|_| nodes::start(fresh(), Some(&address)));
        let mut nodes = try_join_all(rest).await?;
        nodes.insert(0, first);
        // In each round every node learns of those that joined before it.
        let neighbours = (count - 1).min(kad::K_VALUE.get());
        within("joining", async {
            loop {
                let known = try_join_all(nodes.iter().map(nodes::look_around)).await?;
                if known.iter().all(|known| *known >= neighbours) {
                    return Ok(());
                }
            }
        })
        .await?;
        let peers: Vec<_> = nodes.iter().map(Host::peer_id).collect();
        let first = peers.first().map(|peer| short(&peer.to_string())).unwrap_or_default();
        step.done(format!("{count} nodes joined through one bootstrap node, {first}"));
        let writer = |node: &Host| node.client().writer().clone();
        let writers: Vec<_> = nodes.iter().skip(1).take(writers).map(writer).collect();
        let target = kad::KBucketKey::new(kad::RecordKey::new(&key));
        let mut replicas = peers;
        replicas.sort_by_key(|peer| kad::KBucketKey::from(*peer).distance(&target));
        replicas.truncate(kad::K_VALUE.get());
        let summary = Summary { nodes: count, writers: writers.len(), ..Summary::default() };
        Ok(Self { key, nodes, writers, replicas, withdrawn: None, summary })
    }

    /// The node that never wrote.
    fn reader(&self) -> Result<&Host> {
        self.nodes.last().context("no node is left")
    }

    /// The running replicas of the record, closest to its key first.
    fn replicas(&self) -> impl Iterator<Item = &Host> {
        let find = |peer: &PeerId| self.nodes.iter().find(|node| node.peer_id() == *peer);
        self.replicas.iter().filter_map(find)
    }

    /// The node of a writer.
    fn writer(&self, writer: usize) -> Result<&Host> {
        self.nodes.get(writer + 1).context("no such node")
    }

    /// Waits for what writes and reads have left in the background: a write returns when a majority
    /// of the replicas has acknowledged it.
    async fn settle(&self) -> Result<()> {
        try_join_all(self.nodes.iter().map(|node| node.client().close())).await?;
        Ok(())
    }

    async fn publish(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step(format!("{} writers publish at once", self.writers.len()));
        let mut publishing = Vec::new();
        for i in 0..self.writers.len() {
            let document: Dict = [
                ("name", Node::from(format!("{NAME}{}", i + 1))),
                ("seat", Node::from(i64::try_from(i)? + 1)),
            ]
            .into_iter()
            .collect();
            publishing.push(self.writer(i)?.client().publish(self.key.clone(), document, TTL));
        }
        let answered = try_join_all(publishing).await?;
        self.settle().await?;
        // A replica acknowledges a record that it refuses, so the stores are compared.
        let stored =
            try_join_all(self.replicas().map(|node| nodes::stored(node, &self.key))).await?;
        let writers = self.writers.len();
        let spaces = |record: &Option<SmartRecord>| record.as_ref().map_or(0, |r| r.spaces().len());
        let complete = stored.iter().filter(|record| spaces(record) == writers).count();
        ensure!(complete > 0, "no replica has all {writers} spaces");
        // In a larger network a writer may not know all of the closest peers.
        let all = stored.len();
        ensure!(
            complete == all || self.nodes.len() > kad::K_VALUE.get(),
            "only {complete} of {all} replicas have all {writers} spaces"
        );
        step.done(format!(
            "{} writers published under {}; {complete} of {all} replicas hold every space",
            answered.len(),
            self.key
        ));
        Ok(())
    }

    /// What the node that never wrote reads from the network.
    async fn read(&mut self) -> Result<View> {
        let record = nodes::read(self.reader()?, &self.key).await?;
        let now = SystemClock.now();
        let view = record.view(now);
        for (_, space) in &view {
            self.summary.expired_visible += expired_nodes(&space.document, now);
        }
        Ok(view)
    }

    async fn first_read(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step("A node that never wrote reads the record".to_owned());
        let view = self.read().await?;
        self.summary.spaces_read = view.len();
        ensure!(
            view.len() == self.writers.len(),
            "{} of {} spaces were read",
            view.len(),
            self.writers.len()
        );
        step.done(format!(
            "the last node, which never wrote, reads {} spaces from its peers",
            view.len()
        ));
        report.table(&view, SystemClock.now())?;
        Ok(())
    }

    async fn merge(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step("A writer merges more into its space".to_owned());
        let more: Dict = [("mood", "cheerful")].into_iter().collect();
        self.writer(0)?.client().publish(self.key.clone(), more, TTL).await?;
        self.settle().await?;
        let document = self.document_of(0).await?;
        let has = |name: &str| document.get(name).is_some();
        ensure!(has("name") && has("seat") && has("mood"), "merging gave {document}");
        step.done(format!("writer 1 merged; its space now says {document}"));
        Ok(())
    }

    async fn withdraw(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step("A writer withdraws its space".to_owned());
        let before = self.read().await?.len();
        let replayed = self.space_of(1).await?;
        self.writer(1)?.client().withdraw(self.key.clone()).await?;
        self.settle().await?;
        let view = self.read().await?;
        ensure!(
            view.len() + 1 == before,
            "{before} spaces before withdrawing, {} after",
            view.len()
        );
        // A replica that has missed the withdrawal would send what it holds.
        let reader = self.reader()?;
        let mut others = self.replicas().filter(|node| node.peer_id() != reader.peer_id());
        let replica = others.next().context("no other node is left")?;
        drop(others);
        let mut events = nodes::events(replica).await?;
        nodes::send(reader, replica.peer_id(), &self.key, replayed.encode()).await?;
        let refused = nodes::until(&mut events, attacks::refusal).await;
        let is_stale = matches!(refused, Some((Fault::Stale, _)));
        ensure!(is_stale, "the withdrawn space was not refused as stale: {refused:?}");
        let view = self.read().await?;
        ensure!(view.len() + 1 == before, "the withdrawn space came back");
        self.withdrawn = Some(replayed);
        step.done("writer 2 withdrew; sent again, its old space does not come back".to_owned());
        Ok(())
    }

    async fn expire(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step("A short-lived node expires while its neighbours live".to_owned());
        let mut ttl = SHORT_TTL;
        let until = loop {
            let until = SystemClock.now().saturating_add(ttl);
            let blink: Dict = [("blink", Node::from(true).expires_at(until))].into_iter().collect();
            self.writer(0)?.client().publish(self.key.clone(), blink, TTL).await?;
            let before = self.document_of(0).await?;
            if before.get("blink").is_some() {
                break until;
            }
            ensure!(SystemClock.now() >= until, "{before} lacks the node");
            // A slow machine needs longer to read it.
            ttl = ttl.saturating_mul(2);
        };
        tokio::time::sleep(until.saturating_since(SystemClock.now())).await;
        let after = self.document_of(0).await?;
        ensure!(
            after.get("blink").is_none() && after.get("name").is_some(),
            "after the node expired: {after}"
        );
        step.done(format!(
            "after {} s \"blink\" is gone and its neighbours are not: {after}",
            ttl.as_secs()
        ));
        Ok(())
    }

    /// A writer's document as the reader sees it.
    async fn document_of(&mut self, writer: usize) -> Result<Dict> {
        let writer = self.writers.get(writer).context("no such writer")?.clone();
        let view = self.read().await?;
        let space = view.get(&writer.peer_id()).context("the space is gone")?;
        Ok(space.document.clone())
    }

    /// A writer's space as a record of its own.
    async fn space_of(&self, writer: usize) -> Result<SmartRecord> {
        let writer = self.writers.get(writer).context("no such writer")?.clone();
        let merged = nodes::read(self.reader()?, &self.key).await?;
        let mut record = SmartRecord::new(self.key.clone());
        for update in merged.space(&writer).context("no space")?.updates() {
            record.insert(writer.clone(), update.clone())?;
        }
        Ok(record)
    }

    async fn lose_nodes(&mut self, report: &DemoReport) -> Result<()> {
        let lost = (self.nodes.len() + 1) / 3;
        let step = report.step(format!("{lost} of {} nodes stop", self.nodes.len()));
        let before = self.read().await?.len();
        // The writers stop first, so that other nodes have to hold what is read.
        join_all(self.nodes.drain(1..=lost).map(Host::ended)).await;
        let view = self.read().await?;
        self.summary.spaces_after_loss = view.len();
        ensure!(view.len() == before, "{before} spaces before the loss, {} after", view.len());
        step.done(format!(
            "{lost} nodes stopped, writers among them; {} spaces are read all the same",
            view.len()
        ));
        report.table(&view, SystemClock.now())?;
        Ok(())
    }

    /// Compares the running replicas with what a reader sees.
    async fn converge(&mut self, report: &DemoReport) -> Result<()> {
        let step = report.step("Comparing the live replicas".to_owned());
        let mut result = "hold the same view";
        self.summary.converged = self.agree().await?;
        for _ in 0..REPAIRS {
            if self.summary.converged {
                break;
            }
            // In a larger network a write may miss one of the closest peers; a read repairs it.
            result = "hold the same view, after reads repaired them";
            self.read().await?;
            self.summary.converged = self.agree().await?;
        }
        ensure!(self.summary.converged, "the replicas do not hold the same view");
        step.done(format!("{} live replicas {result}", self.replicas().count()));
        Ok(())
    }

    /// Whether all running replicas hold the view that a reader sees.
    async fn agree(&mut self) -> Result<bool> {
        let read = nodes::read(self.reader()?, &self.key).await?;
        self.settle().await?;
        let stored =
            try_join_all(self.replicas().map(|node| nodes::stored(node, &self.key))).await?;
        let now = SystemClock.now();
        let read = read.view(now);
        Ok(!read.is_empty()
            && stored.iter().all(|record| record.as_ref().is_some_and(|r| r.view(now) == read)))
    }
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => bail!("{what} took longer than {} s", PATIENCE.as_secs()),
    }
}

/// Number of values in a document that had expired at `now`.
fn expired_nodes(document: &Dict, now: Timestamp) -> usize {
    document.iter().map(|(_, node)| expired_values(node, now)).sum()
}

fn expired_values(node: &Node, now: Timestamp) -> usize {
    let is_expired = node.expires_at.is_some_and(|at| at <= now);
    let inside = node.kind.children().map(|child| expired_values(child, now));
    match inside.reduce(usize::saturating_add) {
        Some(expired) => expired,
        None => usize::from(is_expired),
    }
}

fn short(peer: &str) -> String {
    let tail = peer.len().saturating_sub(6);
    format!("…{}", peer.get(tail..).unwrap_or(peer))
}
