//! What the demo prints: its steps as they go, on standard error, and tables of what a reader sees.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};
use libp2p_smart_record::{Timestamp, View};

/// How many rows of a table are printed.
const MAX_ROWS: usize = 20;
/// A table is at least this wide, in characters.
const MIN_WIDTH: u16 = 60;

/// Where the steps and tables go.
pub struct Report {
    spinner: ProgressBar,
    json: bool,
}

/// A step that has been announced.
#[must_use = "a step ends with its result"]
pub struct Step<'a> {
    report: &'a Report,
}

impl Report {
    pub fn new(json: bool) -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        Self { spinner, json }
    }

    /// Announces a step. On a terminal it stays visible as long as it takes.
    pub fn step(&self, title: String) -> Step<'_> {
        if self.spinner.is_hidden() {
            eprintln!("… {title}");
        }
        self.spinner.reset_elapsed();
        self.spinner.set_message(title);
        self.spinner.enable_steady_tick(Duration::from_millis(100));
        Step { report: self }
    }

    /// Prints what a reader sees, unless standard output is for JSON.
    pub fn table(&self, view: &View, now: Timestamp) {
        if self.json {
            return;
        }
        let mut table = Table::new();
        table
            .load_style(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(["writer", "seq", "expires in", "document"]);
        // Some terminals say that they have no width at all.
        if let Some(width) = table.width() {
            table.set_width(width.max(MIN_WIDTH));
        }
        for (writer, space) in view.iter().take(MAX_ROWS) {
            let left = space.expires_at.saturating_since(now);
            table.add_row([
                super::short(&writer.to_string()),
                space.seq.to_string(),
                format!("{} s", left.as_secs()),
                space.document.to_string(),
            ]);
        }
        println!("{table}");
        if let Some(more) = view.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
            println!("and {more} more");
        }
    }

    /// Takes the running step off the terminal.
    pub fn clear(&self) {
        self.spinner.finish_and_clear();
    }
}

impl Step<'_> {
    /// Ends the step with what has been shown.
    pub fn done(self, result: String) {
        self.report.spinner.disable_steady_tick();
        self.report.spinner.finish_and_clear();
        eprintln!("✓ {result}");
    }
}
