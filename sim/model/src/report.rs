//! Tables and plots: as CSV and SVG in a folder, and as Markdown in a document.

use std::{
    error::Error,
    fmt::{Display, Write as _},
    fs,
    path::{Path, PathBuf},
};

use plotters::prelude::*;

/// Where results go.
#[derive(Debug)]
pub(crate) struct Report {
    /// The document in which tables are replaced.
    document: PathBuf,
    /// The folder of CSV and SVG.
    folder: PathBuf,
}

/// A table of results.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A line of a plot.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// What a plot shows, beside its lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Whether x is on a logarithmic scale.
    pub(crate) is_log: bool,
}

type Outcome = Result<(), Box<dyn Error>>;

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [&dyn Display; N]) {
        self.rows.push(cells.map(ToString::to_string).into());
    }

    fn csv(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|name| quoted(name)).collect();
        let mut text = columns.join(",") + "\n";
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(|cell| field(cell)).collect();
            let _ = writeln!(text, "{}", cells.join(","));
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("| {} |\n", self.columns.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }
}

/// A cell as a field of CSV: a number without separators.
fn field(cell: &str) -> String {
    let is_number = |char: char| char.is_ascii_digit() || matches!(char, ',' | '.');
    if cell.chars().all(is_number) { cell.replace(',', "") } else { quoted(cell) }
}

/// A text as a field of CSV.
fn quoted(field: &str) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

impl Report {
    /// Results for this document, with a folder of its name beside it.
    pub(crate) fn new(document: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = document.with_extension("");
        fs::create_dir_all(&folder)?;
        Ok(Self { document: document.to_owned(), folder })
    }

    /// Writes a table as CSV, and in the document between `<!-- name -->` and `<!-- end -->`, if it
    /// has these lines. Prints it as well.
    pub(crate) fn table(&self, name: &str, table: &Table) -> Outcome {
        println!("\n{name}\n\n{}", table.markdown());
        fs::write(self.folder.join(name).with_extension("csv"), table.csv())?;
        let Ok(text) = fs::read_to_string(&self.document) else { return Ok(()) };
        let begin = format!("<!-- {name} -->\n");
        if let Some((before, rest)) = text.split_once(&begin)
            && let Some((_, after)) = rest.split_once("<!-- end -->")
        {
            let new = format!("{before}{begin}\n{}\n<!-- end -->{after}", table.markdown());
            fs::write(&self.document, new)?;
        }
        Ok(())
    }

    /// Writes a plot as SVG, and what it shows as CSV.
    pub(crate) fn plot(&self, name: &str, axes: Axes<'_>, lines: &[Line]) -> Outcome {
        let mut table = Table::new(["line", axes.x, axes.y]);
        for (line, points) in lines {
            points.iter().for_each(|(x, y)| table.row([line, x, &format!("{y:.3}")]));
        }
        fs::write(self.folder.join(name).with_extension("csv"), table.csv())?;
        let path = self.folder.join(name).with_extension("svg");
        let points = || lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN, f64::max);
        let least_x = points().map(|point| point.0).fold(f64::MAX, f64::min);
        let (most_x, most_y) = (most(|point| point.0), most(|point| point.1) * 1.05);
        let area = SVGBackend::new(&path, (900, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&area);
        builder
            .caption(axes.title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(60);
        let legend = match axes.is_log {
            true => SeriesLabelPosition::LowerRight,
            false => SeriesLabelPosition::MiddleRight,
        };
        // The two scales are different types.
        macro_rules! draw {
            ($x:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, 0.0..most_y)?;
                chart
                    .configure_mesh()
                    .x_desc(axes.x)
                    .y_desc(axes.y)
                    .max_light_lines(0)
                    .label_style(("sans-serif", 16))
                    .x_label_formatter(&|x| format!("{x}"))
                    .draw()?;
                for (number, (line, points)) in lines.iter().enumerate() {
                    let color = Palette99::pick(number).to_rgba();
                    let style = color.stroke_width(2);
                    chart
                        .draw_series(LineSeries::new(points.iter().copied(), style))?
                        .label(line)
                        .legend(move |(x, y)| {
                            PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2))
                        });
                }
                chart
                    .configure_series_labels()
                    .label_font(("sans-serif", 16))
                    .background_style(WHITE.mix(0.8))
                    .border_style(BLACK.mix(0.3))
                    .position(legend.clone())
                    .draw()?;
            }};
        }
        if axes.is_log {
            draw!((least_x..most_x).log_scale());
        } else {
            draw!(least_x..most_x);
        }
        area.present()?;
        Ok(())
    }
}

/// Milliseconds of a time.
pub(crate) fn ms(time: u64) -> String {
    thousands(time / 1_000)
}

/// A number with commas.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as kilobytes.
pub(crate) fn kb(bytes: f64) -> String {
    format!("{:.1}", bytes / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_their_separators_in_csv_and_texts_are_quoted() {
        let mut table = Table::new(["nodes", "get, median ms"]);
        table.row([&"1,000", &"2,319.5"]);
        table.row([&"none", &"2 of 1,000"]);
        let text = "nodes,\"get, median ms\"\n1000,2319.5\nnone,\"2 of 1,000\"\n";
        assert_eq!(table.csv(), text);
    }
}
