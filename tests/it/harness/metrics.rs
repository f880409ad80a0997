//! Reading the Prometheus text format.

/// The values of a metric (without its prefix) whose labels hold all of these. Only whole ones: the rest is timing.
pub fn values(text: &str, name: &str, labels: &[(&str, &str)]) -> Vec<i64> {
    let name = format!("ralio_relay_{name}");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = |(key, value): &(&str, &str)| series_labels.contains(&format!("{key}=\"{value}\""));
            (series_name == name && labels.iter().all(fits))
                .then(|| value.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
        })
        .collect()
}

/// The sum of [`values`]; 0 where there are none yet.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> i64 {
    values(text, name, labels).iter().sum()
}

#[test]
fn series_are_found_by_name_and_labels() {
    let text = "# TYPE ralio_relay_a gauge\nralio_relay_a{sink=\"x\",outcome=\"y\"} 2\nralio_relay_a{sink=\"z\"} 3\nralio_relay_ab 4\n";
    assert_eq!(values(text, "a", &[]), [2, 3]);
    assert_eq!(values(text, "a", &[("sink", "x")]), [2]);
    assert_eq!(values(text, "ab", &[]), [4]);
    assert!(values(text, "a", &[("sink", "nobody")]).is_empty());
}
