//! Scraped metrics of a service and its node.

use std::collections::BTreeMap;

use libp2p::identity::Keypair;
use libp2p_smart_record::{behaviour::Behaviour, metrics::Metrics};
use prometheus_client::registry::Registry;
use smart_record_services::Service;
use smart_record_testing::metrics;

#[test]
fn names_and_units_are_as_openmetrics_has_them() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let builder = Behaviour::builder(Keypair::generate_ed25519()).with_metrics(&metrics);
    let (mut behaviour, _client) = builder.build();
    let _service = Service::builder().build(&mut behaviour);
    let text = metrics::text(&registry);
    assert!(text.ends_with("# EOF\n"));
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = text.lines().map(words).collect();
    let of = |what: &str| {
        let what = what.to_owned();
        let lines = lines.iter().filter(move |line| line[0] == "#" && line[1] == what);
        lines.map(|line| (line[2].clone(), line[3].clone())).collect::<BTreeMap<_, _>>()
    };
    let (types, units) = (of("TYPE"), of("UNIT"));
    assert!(types.len() > 20, "{types:?}");
    assert_eq!(of("HELP").len(), types.len());
    for (name, unit) in &units {
        assert!(["seconds", "bytes"].contains(&unit.as_str()) && name.ends_with(unit), "{name}");
    }
    for (name, kind) in &types {
        assert_eq!(name.contains("duration") || name.contains("size"), units.contains_key(name));
        let mut series = lines.iter().filter(|line| line[0].starts_with(name.as_str()));
        match kind.as_str() {
            "counter" => assert!(series.all(|line| line[0].contains("_total"))),
            "histogram" | "gauge" => assert!(!name.ends_with("_total")),
            other => panic!("{name} is a {other}"),
        }
    }
}
