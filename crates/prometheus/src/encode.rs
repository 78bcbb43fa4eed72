//! Metric families → text exposition format 0.0.4.

use mloop_core::metrics::{MetricFamily, MetricKind, Sample, SampleValue};
use prometheus::proto;

/// The families as text, each with its `# HELP` and `# TYPE` once, ending in a line feed. Families
/// without samples are left out: the format has no way to write them.
#[must_use]
pub fn encode(families: &[MetricFamily]) -> String {
    let written: Vec<proto::MetricFamily> =
        families.iter().filter(|family| !family.samples.is_empty()).map(family).collect();
    let mut text = String::new();
    // The encoder fails on families without samples and on failing writers: neither can occur here.
    let outcome = prometheus::TextEncoder::new().encode_utf8(&written, &mut text);
    debug_assert!(outcome.is_ok(), "{outcome:?}");
    text
}

fn family(family: &MetricFamily) -> proto::MetricFamily {
    let mut written = proto::MetricFamily::default();
    written.set_name(family.name.clone());
    written.set_help(family.help.clone());
    written.set_field_type(match family.kind {
        MetricKind::Gauge => proto::MetricType::GAUGE,
        MetricKind::Counter => proto::MetricType::COUNTER,
        MetricKind::Histogram => proto::MetricType::HISTOGRAM,
    });
    let samples = family.samples.iter().map(|sample| metric(family.kind, sample));
    written.set_metric(samples.collect());
    written
}

fn metric(kind: MetricKind, sample: &Sample) -> proto::Metric {
    let mut written = proto::Metric::from_label(sample.labels.iter().map(label).collect());
    match &sample.value {
        SampleValue::Number(value) if kind == MetricKind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(*value);
            written.set_counter(counter);
        }
        SampleValue::Number(value) => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*value);
            written.set_gauge(gauge);
        }
        SampleValue::Histogram { cumulative, sum, count } => {
            let mut histogram = proto::Histogram::default();
            histogram.set_bucket(cumulative.iter().map(bucket).collect());
            histogram.set_sample_sum(*sum);
            histogram.set_sample_count(*count);
            written.set_histogram(histogram);
        }
    }
    written
}

fn label((name, value): &(String, String)) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.clone());
    pair.set_value(value.clone());
    pair
}

fn bucket((bound, count): &(f64, u64)) -> proto::Bucket {
    let mut bucket = proto::Bucket::default();
    bucket.set_upper_bound(*bound);
    bucket.set_cumulative_count(*count);
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family_of(kind: MetricKind, value: SampleValue) -> MetricFamily {
        let labels = vec![("site".to_owned(), "north \"1\"".to_owned())];
        MetricFamily {
            name: "mloop_rows".to_owned(),
            help: "Rows.".to_owned(),
            kind,
            samples: vec![Sample { labels, value }],
        }
    }

    #[test]
    fn the_text_is_what_the_format_asks_for() {
        let gauge = family_of(MetricKind::Gauge, SampleValue::Number(1.5));
        let expected = "# HELP mloop_rows Rows.\n# TYPE mloop_rows gauge\nmloop_rows{site=\"north \\\"1\\\"\"} 1.5\n";
        assert_eq!(encode(&[gauge]), expected);
        let empty = MetricFamily {
            samples: vec![],
            ..family_of(MetricKind::Gauge, SampleValue::Number(0.0))
        };
        assert_eq!(encode(&[empty]), "");
    }

    #[test]
    fn histograms_end_with_the_infinite_bucket() {
        let value = SampleValue::Histogram { cumulative: vec![(0.5, 2)], sum: 1.25, count: 3 };
        let text = encode(&[family_of(MetricKind::Histogram, value)]);
        for line in
            ["le=\"0.5\"} 2", "le=\"+Inf\"} 3", "_sum{site=\"north \\\"1\\\"\"} 1.25", "} 3\n"]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
