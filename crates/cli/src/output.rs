//! Output of results and progress.
//!
//! **Invariants.** Tables, colour and progress are for terminals only; `NO_COLOR` switches colour
//! off. Programs get JSON or lines with tabs. Whatever is written to standard output or standard
//! error goes through [`print()`], [`say`] or a table, and is [`printable`] before: text of
//! strangers reaches an output escaped, in JSON by [`json_line`] and elsewhere by [`printable`].

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use libp2p_smart_record::printable;
use serde::Serialize;
use serde_json::{
    Value,
    ser::{Formatter, Serializer},
};
use tracing_subscriber::fmt::MakeWriter;

/// Work shorter than this shows no progress.
const QUICK: Duration = Duration::from_secs(1);
/// Least width of a table in characters: some terminals report no width.
const MIN_WIDTH: u16 = 60;

/// Format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For scripts: one JSON value per line.
    Json,
    /// For a pipe or a file: one row per line, with tabs between the columns.
    Plain,
    /// For people on a terminal.
    Table {
        /// Whether colour is wanted.
        colour: bool,
    },
}

/// A table.
#[derive(Debug)]
pub struct Rows {
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Format {
    /// The format for this process's standard output.
    pub fn choose(json: bool) -> Self {
        let variable = |name| std::env::var_os(name);
        Self::decide(
            json,
            io::stdout().is_terminal(),
            variable("NO_COLOR").as_deref(),
            variable("TERM").as_deref(),
        )
    }

    fn decide(
        json: bool,
        is_terminal: bool,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
    ) -> Self {
        if json {
            return Self::Json;
        }
        if !is_terminal {
            return Self::Plain;
        }
        let unwanted = no_color.is_some_and(|value| !value.is_empty());
        Self::Table { colour: !unwanted && term != Some(OsStr::new("dumb")) }
    }

    pub fn is_json(self) -> bool {
        self == Self::Json
    }

    /// Prints a result as JSON or as a line of text, in which what is not printable is escaped.
    pub fn line(
        self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        print(&match self {
            Self::Json => json_line(&json()),
            Self::Plain | Self::Table { .. } => printable(&text()).to_string(),
        })
    }

    /// Prints a result as JSON or as rows.
    pub fn rows(self, json: impl FnOnce() -> Value, rows: impl FnOnce() -> Rows) -> io::Result<()> {
        self.rendered(json, rows).iter().try_for_each(|line| print(line))
    }

    /// A result as JSON or as rows: the lines, or the table.
    fn rendered(self, json: impl FnOnce() -> Value, rows: impl FnOnce() -> Rows) -> Vec<String> {
        match self {
            Self::Json => vec![json_line(&json())],
            Self::Plain => rows().rows.iter().map(|row| plain(row)).collect(),
            Self::Table { colour } => vec![table(rows(), colour).to_string()],
        }
    }
}

/// Cells with tabs between them.
fn plain(row: &[String]) -> String {
    let cells: Vec<_> = row.iter().map(|cell| printable(cell).to_string()).collect();
    cells.join("\t")
}

/// A table as wide as the terminal.
pub fn table(Rows { header, rows }: Rows, colour: bool) -> Table {
    let cell = |text: &str, paint: Option<Color>| {
        let cell = Cell::new(printable(text).to_string());
        match paint.filter(|_| colour) {
            Some(paint) => cell.fg(paint),
            None => cell,
        }
    };
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|title| cell(title, Some(Color::Cyan))));
    if let Some(width) = table.width() {
        table.set_width(width.max(MIN_WIDTH));
    }
    for row in rows {
        let paint = |column| if column == 0 { Some(Color::Green) } else { None };
        table.add_row(row.into_iter().enumerate().map(|(column, text)| cell(&text, paint(column))));
    }
    table
}

/// JSON in a cell, with spaces as people write it. It can be typed where JSON is.
pub fn json_cell(json: &Value) -> String {
    struct Spaced;

    impl Formatter for Spaced {
        fn begin_array_value<W: ?Sized + Write>(
            &mut self,
            to: &mut W,
            first: bool,
        ) -> io::Result<()> {
            to.write_all(if first { b"" } else { b", " })
        }

        fn begin_object_key<W: ?Sized + Write>(
            &mut self,
            to: &mut W,
            first: bool,
        ) -> io::Result<()> {
            self.begin_array_value(to, first)
        }

        fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
            to.write_all(b": ")
        }
    }

    let mut spaced = Vec::new();
    // A vector takes whatever is written to it, and JSON is UTF-8.
    let _ = json.serialize(&mut Serializer::with_formatter(&mut spaced, Spaced));
    escape_json(&String::from_utf8_lossy(&spaced))
}

/// JSON on one line. What is not [`printable`] becomes an escape sequence of JSON, `\u` and four
/// digits; `serde_json` leaves everything from DEL on as it is.
pub fn json_line(json: &Value) -> String {
    escape_json(&json.to_string())
}

fn escape_json(json: &str) -> String {
    let mut line = String::new();
    let mut before = '"';
    for c in json.chars() {
        // A combining character belongs to the character before it, but not to a quotation mark.
        let text = if before == '"' { c.into() } else { format!("a{c}") };
        if printable(&text).to_string() == text {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A string takes whatever is written to it.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
        before = c;
    }
    line
}

/// Prints a line on standard output. Fails if its reader has closed it.
pub fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a line on standard error. A closed standard error is no failure.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints text of several lines on standard error, each of them [`printable`].
pub fn say_lines(text: &str) {
    text.trim_end().lines().for_each(|line| say(&printable(line).to_string()));
}

/// Writer of log lines to standard error. What is logged may have been written by strangers.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    /// Writes one event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        say(&printable(event.strip_suffix(b"\n").unwrap_or(event)).to_string());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Makes a panic one line on standard error.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| say(&printable(&panic.to_string()).to_string())));
}

/// Waits for `work`, and shows a spinner on a terminal if it takes long.
pub async fn progress<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(QUICK, &mut work).await {
        return done;
    }
    // Hidden unless standard error is a terminal; cleared when it is dropped.
    let spinner =
        ProgressBar::new_spinner().with_message(what).with_finish(ProgressFinish::AndClear);
    spinner.enable_steady_tick(Duration::from_millis(100));
    work.await
}

/// Repeats `step` until it has a result. Each time it says how many of some `expected` tries were
/// made, which a terminal shows if it takes long.
pub fn search<T>(
    what: &'static str,
    expected: u64,
    mut step: impl FnMut() -> (u64, Option<T>),
) -> T {
    let begun = Instant::now();
    let mut bar = None;
    loop {
        let (tried, found) = step();
        if let Some(found) = found {
            return found;
        }
        if begun.elapsed() >= QUICK {
            // Hidden unless standard error is a terminal; cleared when it is dropped.
            let bar = bar.get_or_insert_with(|| {
                let style = "{msg}: {human_pos} of some {human_len} tries, for {elapsed}";
                let style = ProgressStyle::with_template(style);
                ProgressBar::new(expected)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                    .with_message(what)
                    .with_finish(ProgressFinish::AndClear)
            });
            bar.set_position(tried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_4_json_is_one_line_without_control_or_bidi_characters_and_means_the_same() {
        let hostile = ('\0'..='\u{9f}').chain(
            "\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\
             \u{301}\u{feff}\u{e0001}\u{10ffff}"
                .chars(),
        );
        for c in hostile {
            for text in [format!("{c}"), format!("a{c}b"), format!("\"{c}\\{c}")] {
                let json = serde_json::json!({ &text: [text] });
                let line = json_line(&json);
                assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json, "{line}");
                assert_eq!(printable(&line).to_string(), line, "{c:?}");
            }
        }
        for text in ["café", "cafe\u{301}", "日本", "नमस्ते", "🦀"] {
            assert_eq!(json_line(&text.into()), format!("\"{text}\""));
        }
    }

    #[test]
    fn case_4_each_form_of_rows_and_lines_is_without_control_or_bidi_characters() {
        let hostile = "a\u{9b}31m\u{202e}b\u{7f}\u{1b}]0;c\u{7}\t0\n1\u{85}\u{2028}\u{200b}";
        let rows = || Rows {
            header: vec!["cell", "cell"],
            rows: vec![vec![hostile.to_owned(); 2], vec![json_cell(&hostile.into()); 2]],
        };
        let json = || Value::from(hostile);
        for format in [Format::Json, Format::Plain, Format::Table { colour: false }] {
            let shown = format.rendered(json, rows);
            for line in shown.iter().flat_map(|it| it.split('\n')).flat_map(|it| it.split('\t')) {
                assert_eq!(printable(line).to_string(), line, "{format:?}");
            }
        }
        let [first, second] = &Format::Plain.rendered(json, rows)[..] else { panic!() };
        assert_eq!([first, second].map(|line| line.split('\t').count()), [2, 2]);
        let cell = second.split('\t').next().unwrap();
        assert_eq!(serde_json::from_str::<Value>(cell).unwrap(), hostile);
        let spaced = serde_json::json!({ "a": [1, {}, []], "b": { "c": null } });
        assert_eq!(json_cell(&spaced), r#"{"a": [1, {}, []], "b": {"c": null}}"#);
        assert_eq!(LogWriter.write(b"a\x1b\n").unwrap(), 3);
    }

    #[test]
    fn tables_and_colour_are_for_terminals_and_no_color_is_respected() {
        let decide = |json, is_terminal, no_color: Option<&str>, term: Option<&str>| {
            Format::decide(json, is_terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        let (table, plain_table) =
            (Format::Table { colour: true }, Format::Table { colour: false });
        assert_eq!(decide(false, true, None, Some("xterm")), table);
        assert_eq!(decide(false, true, None, None), table);
        assert_eq!(decide(false, true, Some(""), None), table, "no-color.org: not an empty string");
        assert_eq!(decide(false, true, Some("1"), None), plain_table);
        assert_eq!(decide(false, true, None, Some("dumb")), plain_table);
        assert_eq!(decide(false, false, None, Some("xterm")), Format::Plain);
        assert_eq!(decide(true, true, None, None), Format::Json);
        assert_eq!(decide(true, false, Some("1"), None), Format::Json);
    }
}
