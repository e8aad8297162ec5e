//! Output of the demo: its steps on standard error, and tables of views.

use std::{io, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use libp2p_smart_record::{SpaceView, Timestamp, View, Writer};

use crate::output::{self, Format, Rows};

/// Most rows of a table.
const MAX_ROWS: usize = 20;

/// Output of the demo.
pub struct DemoReport {
    spinner: ProgressBar,
    format: Format,
}

/// A running step.
#[must_use = "a step ends with its result"]
pub struct DemoStep<'a> {
    report: &'a DemoReport,
}

impl DemoReport {
    pub fn new(format: Format) -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        Self { spinner, format }
    }

    /// Begins a step, which a terminal shows while it runs.
    pub fn step(&self, title: String) -> DemoStep<'_> {
        if self.spinner.is_hidden() {
            output::say(&format!("… {title}"));
        }
        self.spinner.reset_elapsed();
        self.spinner.set_message(title);
        self.spinner.enable_steady_tick(Duration::from_millis(100));
        DemoStep { report: self }
    }

    /// Prints a view, unless standard output is for JSON.
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
        // The demo is for people, so it prints a table on any output.
        let table = output::table(rows, self.format == Format::Table { colour: true });
        output::print(&table.to_string())?;
        match view.len().checked_sub(MAX_ROWS).filter(|more| *more > 0) {
            Some(more) => output::print(&format!("and {more} more")),
            None => Ok(()),
        }
    }

    /// Clears the running step from the terminal.
    pub fn clear(&self) {
        self.spinner.finish_and_clear();
    }
}

impl DemoStep<'_> {
    /// Ends the step with its result.
    pub fn done(self, result: String) {
        self.report.spinner.disable_steady_tick();
        self.report.spinner.finish_and_clear();
        output::say(&format!("✓ {result}"));
    }
}
