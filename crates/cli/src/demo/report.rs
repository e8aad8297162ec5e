//! What the demo prints: its steps as they go, on standard error, and tables of what a reader sees.

use std::{io, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use libp2p_smart_record::{SpaceView, Timestamp, View, Writer};

use crate::output::{self, Format, Rows};

/// How many rows of a table are printed.
const MAX_ROWS: usize = 20;

/// Where the steps and tables go.
pub struct Report {
    spinner: ProgressBar,
    format: Format,
}

/// A step that has been announced.
#[must_use = "a step ends with its result"]
pub struct Step<'a> {
    report: &'a Report,
}

impl Report {
    pub fn new(format: Format) -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        Self { spinner, format }
    }

    /// Announces a step. On a terminal it stays visible as long as it takes.
    pub fn step(&self, title: String) -> Step<'_> {
        if self.spinner.is_hidden() {
            output::say(&format!("… {title}"));
        }
        self.spinner.reset_elapsed();
        self.spinner.set_message(title);
        self.spinner.enable_steady_tick(Duration::from_millis(100));
        Step { report: self }
    }

    /// Prints what a reader sees, unless standard output is for JSON.
    pub fn table(&self, view: &View, now: Timestamp) -> io::Result<()> {
        if self.format.is_json() {
            return Ok(());
        }
        let row = |(writer, space): (&Writer, &SpaceView)| {
            let left = space.expires_at.saturating_since(now);
            vec![
                super::short(&writer.to_string()),
                space.seq.to_string(),
                format!("{} s", left.as_secs()),
                space.document.to_string(),
            ]
        };
        let rows = Rows {
            header: vec!["writer", "seq", "expires in", "document"],
            rows: view.iter().take(MAX_ROWS).map(row).collect(),
        };
        // The demo is for people, wherever it goes.
        let table = output::table(rows, self.format == Format::Table { colour: true });
        output::print(&table.to_string())?;
        match view.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
            Some(more) => output::print(&format!("and {more} more")),
            None => Ok(()),
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
        output::say(&format!("✓ {result}"));
    }
}
