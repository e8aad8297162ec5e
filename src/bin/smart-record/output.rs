//! What people and scripts see of a record, and of work that takes its time.

use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::ProgressBar;
use libp2p_smart_record::{RecordKey, Timestamp, View};
use serde_json::{Value, json};

/// Work that takes no longer than this shows no progress.
const QUICK: Duration = Duration::from_secs(1);

/// Waits for `work`; on a terminal, with a sign of life if it takes long.
pub async fn progress<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(QUICK, &mut work).await {
        return done;
    }
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// A view as JSON.
pub fn view_json(key: &RecordKey, view: &View) -> Value {
    let spaces: Vec<_> = view
        .iter()
        .map(|(writer, space)| {
            json!({
                "writer": writer.to_string(),
                "seq": space.seq.to_string(),
                "expires_at": space.expires_at.to_string(),
                "document": space.document.to_json(),
            })
        })
        .collect();
    json!({ "key": key.to_string(), "spaces": spaces })
}

/// A view as a table, in colour on a terminal.
pub fn view_table(view: &View, now: Timestamp) -> Table {
    let mut table = Table::new();
    let header = ["writer", "seq", "expires in", "document"];
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(|title| Cell::new(title).fg(Color::Cyan)));
    for (writer, space) in view {
        table.add_row([
            Cell::new(writer).fg(Color::Green),
            Cell::new(space.seq),
            Cell::new(format!("{} s", space.expires_at.saturating_since(now).as_secs())),
            Cell::new(&space.document),
        ]);
    }
    table
}
