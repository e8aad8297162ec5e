//! Scraped metrics.

use std::collections::BTreeMap;

use prometheus_client::{encoding::text::encode, registry::Registry};

/// The whole output of a scrape.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// Values by the names and labels of their series, without the common prefix.
pub fn scrape(registry: &Registry) -> BTreeMap<String, f64> {
    let text = text(registry);
    let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.strip_prefix("smart_record_").expect("all have the prefix");
        (name.to_owned(), value.parse().unwrap())
    });
    series.collect()
}
