//! The text that Prometheus reads (its exposition format, version 0.0.4).
use super::families::{Family, MetricType};
use crate::host::histogram::{BOUNDS, HistogramReading};
use std::fmt::Write;

/// What the page is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics. Families come one after the other, each with its samples.
#[derive(Debug, Default)]
pub struct MetricsPage {
    text: String,
}

impl MetricsPage {
    /// An empty page.
    pub fn new() -> MetricsPage {
        MetricsPage { text: String::with_capacity(16 << 10) }
    }

    /// Begins a family; its samples follow.
    pub fn family(&mut self, family: Family) -> Samples<'_> {
        let of = family.definition();
        let _ = writeln!(self.text, "# HELP {} {}\n# TYPE {} {}", of.name, of.help, of.name, of.kind.word());
        Samples { page: self, family }
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Where the samples of one family go.
pub struct Samples<'p> {
    page: &'p mut MetricsPage,
    family: Family,
}

impl Samples<'_> {
    /// A number; `labels` are the values of the family's labels, in their order.
    pub fn number(&mut self, labels: &[&str], value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    /// The classes, the sum in seconds and the count of a histogram.
    pub fn histogram(&mut self, labels: &[&str], reading: &HistogramReading) {
        debug_assert_eq!(self.family.definition().kind, MetricType::Histogram);
        for (bound, count) in BOUNDS.iter().zip(reading.up_to) {
            self.line("_bucket", labels, Some(&seconds(*bound)), &count.to_string());
        }
        self.line("_bucket", labels, Some("+Inf"), &reading.count.to_string());
        self.line("_sum", labels, None, &seconds(reading.micros));
        self.line("_count", labels, None, &reading.count.to_string());
    }

    fn line(&mut self, end: &str, labels: &[&str], bound: Option<&str>, value: &str) {
        let of = self.family.definition();
        debug_assert_eq!(of.labels.len(), labels.len(), "the labels of {}", of.name);
        let text = &mut self.page.text;
        text.push_str(of.name);
        text.push_str(end);
        let pairs = of.labels.iter().copied().zip(labels.iter().copied()).chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (name, value) in pairs {
            text.push(open);
            open = ',';
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(text, value);
            text.push('"');
        }
        if open == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

/// Microseconds as seconds, without zeros at the end: `0.0025`.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:06}").trim_end_matches('0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::histogram::Histogram;

    #[test]
    fn a_family_is_written_as_the_format_says() {
        let mut page = MetricsPage::new();
        page.family(Family::PublishResponses).number(&["di\"a\\log\n", "200"], 3);
        page.family(Family::FanoutsWaiting).number(&[], 0);
        let text = page.into_text();
        assert!(text.contains("# TYPE presence_publish_responses_total counter\n"));
        assert!(text.contains("presence_publish_responses_total{event=\"di\\\"a\\\\log\\n\",code=\"200\"} 3\n"));
        assert!(text.ends_with("# TYPE presence_fanouts_waiting gauge\npresence_fanouts_waiting 0\n"));
    }

    #[test]
    fn a_histogram_ends_with_its_sum_and_count() {
        let histogram = Histogram::default();
        [2_000, 40_000_000].into_iter().for_each(|micros| histogram.record(crate::time::Micros(micros)));
        let mut page = MetricsPage::new();
        page.family(Family::LockWait).histogram(&["memory"], &histogram.read());
        let text = page.into_text();
        assert!(text.contains("_bucket{lock=\"memory\",le=\"0.001\"} 0\n"));
        assert!(text.contains("_bucket{lock=\"memory\",le=\"0.0025\"} 1\n"));
        assert!(text.contains("_bucket{lock=\"memory\",le=\"30\"} 1\n"));
        assert!(text.contains("_bucket{lock=\"memory\",le=\"+Inf\"} 2\n"));
        assert!(text.ends_with("_sum{lock=\"memory\"} 40.002\npresence_lock_wait_seconds_count{lock=\"memory\"} 2\n"));
    }
}
