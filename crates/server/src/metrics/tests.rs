//! The document lists what the program shows, and nothing else.

use std::collections::BTreeSet;

use logwood_proto::v1::WitnessStatus;

use super::scrape::{LogSample, Snapshot};
use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");

/// Name and type of every metric of an `OpenMetrics` text.
fn shown(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The first two columns of the table's rows.
fn documented(text: &str) -> BTreeSet<(String, String)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `logwood_"));
    rows.map(|row| {
        let mut columns = row.split('|').map(str::trim);
        let name = columns.next().expect("a first column").trim_end_matches('`');
        (format!("logwood_{name}"), columns.next().expect("a second column").to_owned())
    })
    .collect()
}

fn text() -> String {
    let shown = ["a", "b"].map(|name| LogSample {
        name: name.to_owned(),
        size: 3,
        published_size: 2,
        published_ms: 1_500,
        publish_age_ms: 250,
        witnessed: Some((2, vec![WitnessStatus { name: "w \"1\"".into(), ..WitnessStatus::default() }])),
    });
    let metrics = Metrics::new();
    metrics.witness_answered("w", Duration::from_millis(3));
    metrics.text(&Snapshot { logs: 2, shown: shown.into(), ..Snapshot::default() })
}

#[test]
fn the_table_of_the_document_is_what_is_shown() {
    assert_eq!(documented(DOCUMENT), shown(&text()));
}

#[test]
fn units_are_in_the_names_and_the_text_ends_as_openmetrics_does() {
    let text = text();
    assert!(text.contains("logwood_log_published_timestamp_seconds{log=\"a\"} 1.5\n"), "{text}");
    assert!(text.contains("logwood_log_publish_age_seconds{log=\"b\"} 0.25\n"), "{text}");
    assert!(text.contains("logwood_grpc_requests_total{rpc=\"Append\",code=\"OK\"} 0\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_status_or_rpc_that_nobody_knows_makes_no_new_label() {
    let metrics = Metrics::new();
    let series = |metrics: &Metrics| metrics.text(&Snapshot::default()).lines().count();
    metrics.http_answered("other", StatusCode::IM_A_TEAPOT, Duration::ZERO);
    let before = series(&metrics);
    metrics.http_answered("other", StatusCode::LOOP_DETECTED, Duration::ZERO);
    assert_eq!(series(&metrics), before);
}
