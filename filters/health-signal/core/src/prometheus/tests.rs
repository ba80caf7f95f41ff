//! Pages as libraries write them, and as nobody should.

use super::*;
use proptest::prelude::*;

const PAGE: &str = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3
# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
# Minimalistic line:
metric_without_timestamp_and_labels 12.47
# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045
queue_depth{queue="a"} 3
queue_depth{queue="b",} 4
not_known NaN
"#;

fn sample(name: &str) -> Sample {
    Sample {
        name: name.to_owned(),
        labels: Vec::new(),
        labels_not: Vec::new(),
        reading: Reading::Auto,
        scale: 1.0,
        signal: Signal::QueueDepth,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(1_395_066_363 + secs)
}

/// The value that these pages give, ten seconds apart.
fn pages(sample: &Sample, pages: &[&str]) -> Vec<Option<f64>> {
    let mut before = Before::default();
    let mut secs = 0;
    let read = |page: &&str| {
        secs += 10;
        let samples = core::slice::from_ref(sample);
        let read = read(page.as_bytes(), samples, &mut before, Duration::from_secs(60), at(secs));
        read.unwrap().first().map(|(_, value)| *value)
    };
    pages.iter().map(read).collect()
}

fn one(sample: &Sample, page: &str) -> Option<f64> {
    pages(sample, &[page])[0]
}

fn whole(page: &[u8]) -> Result<Vec<(Signal, f64)>, PollFailure> {
    let samples = [sample("queue_depth"), sample("http_requests_total")];
    read(page, &samples, &mut Before::default(), Duration::from_secs(60), at(0))
}

#[test]
fn a_gauge_is_taken_as_it_is_and_series_add_up() {
    assert_eq!(one(&sample("queue_depth"), PAGE), Some(7.0));
    assert_eq!(one(&sample("metric_without_timestamp_and_labels"), PAGE), Some(12.47));
    let scaled = Sample { scale: 0.5, ..sample("queue_depth") };
    assert_eq!(one(&scaled, PAGE), Some(3.5));
    assert_eq!(one(&sample("queue"), PAGE), None);
}

#[test]
fn labels_choose_the_series() {
    let depth = |labels, labels_not| {
        let (labels, labels_not) = (pairs(labels), pairs(labels_not));
        one(&Sample { labels, labels_not, ..sample("queue_depth") }, PAGE)
    };
    assert_eq!(depth(&[("queue", "b")], &[]), Some(4.0));
    assert_eq!(depth(&[], &[("queue", "b")]), Some(3.0));
    assert_eq!(depth(&[("queue", "c")], &[]), None);
    assert_eq!(depth(&[("other", "c")], &[]), None, "absent, and must not be");
    assert_eq!(depth(&[("other", "")], &[]), Some(7.0), "absent is empty");
    assert_eq!(depth(&[], &[("other", "c")]), Some(7.0));
}

#[test]
fn escapes_in_labels_are_undone() {
    let labels =
        pairs(&[("path", "C:\\DIR\\FILE.TXT"), ("error", "Cannot find file:\n\"FILE.TXT\"")]);
    let file = Sample { labels, ..sample("msdos_file_access_time_seconds") };
    assert_eq!(one(&file, PAGE), Some(1.458_255_915e9));
}

#[test]
fn a_counter_gives_a_rate_and_a_reset_begins_anew() {
    let page = |a: u32, b: u32| format!("# TYPE c counter\nc{{x=\"a\"}} {a}\nc{{x=\"b\"}} {b}\n");
    let texts = [page(100, 1000), page(150, 1000), page(160, 20), page(160, 20)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // In the third one, b has begun anew: 10 + 20 in ten seconds. The sum alone fell.
    assert_eq!(pages(&sample("c"), &texts), [None, Some(5.0), Some(3.0), Some(0.0)]);
    let forced = Sample { reading: Reading::Gauge, ..sample("c") };
    assert_eq!(pages(&forced, &texts)[0], Some(1100.0));
}

#[test]
fn a_series_that_is_new_has_no_increase_yet() {
    let texts = ["c_total{x=\"a\"} 5", "c_total{x=\"a\"} 6\nc_total{x=\"b\"} 900"];
    assert_eq!(pages(&sample("c_total"), &texts), [None, Some(0.1)]);
}

#[test]
fn openmetrics_ends_at_eof_names_families_without_total_and_may_have_exemplars() {
    let first = "# TYPE c counter\nc_total 7.0 1395066373.0 # {trace_id=\"a\"} 0.67\nc_created 1.0\n# EOF\n";
    let second = "# TYPE c counter\nc_total 27.0 # {trace_id=\"a b\"} 0.67 1.0\n# EOF\nc_total 9 junk that nobody reads\n";
    assert_eq!(pages(&sample("c_total"), &[first, second]), [None, Some(2.0)]);
}

#[test]
fn a_sample_that_is_too_old_says_nothing_in_either_unit_of_time() {
    let stamped = |stamp: &str| one(&sample("g"), &format!("g 5 {stamp}\n"));
    assert_eq!(stamped("1395066363000"), Some(5.0));
    assert_eq!(stamped("1395066310000"), None);
    assert_eq!(one(&sample("g"), "g 5 1395066363.5\n# EOF\n"), Some(5.0));
    assert_eq!(one(&sample("g"), "g 5 1395066310.5\n# EOF\n"), None);
}

#[test]
fn a_histogram_gives_a_quantile_of_what_came_since_the_page_before() {
    let page = |a: u32, b: u32, all: u32| {
        format!(
            "# TYPE h histogram\nh_bucket{{le=\"0.1\"}} {a}\nh_bucket{{le=\"1\"}} {b}\n\
             h_bucket{{le=\"+Inf\"}} {all}\nh_sum 1\nh_count {all}\n"
        )
    };
    let texts = [page(1000, 1000, 1000), page(1000, 1010, 1010), page(5, 10, 10)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let median = Sample { reading: Reading::Quantile(0.5), ..sample("h") };
    let read = pages(&median, &texts);
    assert_eq!(read[0], None);
    assert!((read[1].unwrap() - 0.55).abs() < 1e-9, "{read:?}");
    assert!((read[2].unwrap() - 0.1).abs() < 1e-9, "after a reset: {read:?}");
}

#[test]
fn what_is_no_finite_number_says_nothing() {
    assert_eq!(one(&sample("not_known"), PAGE), None);
    assert_eq!(one(&sample("something_weird"), PAGE), None);
}

#[test]
fn a_page_that_is_not_of_the_format_is_refused() {
    for page in [
        "queue_depth",
        "queue_depth{",
        "queue_depth{queue=\"a} 3",
        "queue_depth{queue=a} 3",
        "queue_depth{queue} 3",
        "queue_depth{queue=\"a\"}",
        "queue_depth many",
        "queue_depth 3 soon",
        "<html>",
        "{\"status\":\"ok\"",
    ] {
        assert_eq!(whole(page.as_bytes()), Err(PollFailure::Body), "{page}");
    }
    assert_eq!(whole(&[0xff, 0xfe]), Err(PollFailure::Body));
    assert_eq!(whole("# x\n".repeat(MAX_LINES + 1).as_bytes()), Err(PollFailure::Body));
    assert_eq!(whole(" ".repeat(MAX_PAGE_BYTES + 1).as_bytes()), Err(PollFailure::Body));
    assert_eq!(whole(b""), Ok(Vec::new()));
}

#[test]
fn what_is_kept_of_a_page_is_bounded() {
    let page: String = (0..3000).map(|n| format!("http_requests_total{{n=\"{n}\"}} 1\n")).collect();
    let mut before = Before::default();
    let samples = [sample("http_requests_total")];
    read(page.as_bytes(), &samples, &mut before, Duration::from_secs(60), at(0)).unwrap();
    assert_eq!(before.series.len(), MAX_SERIES);
}

proptest! {
    #[test]
    fn no_page_panics(page in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(&page);
    }

    #[test]
    fn no_likely_page_panics(
        lines in proptest::collection::vec(
            "(queue_depth|http_requests_total)?(\\{([a-z]{0,3}=?\"?[a-z\\\\\"]{0,4}\"?,?){0,3}\\}?)? ?[0-9.eE+-]{0,9}( [0-9]{0,15})?|# (TYPE|EOF|HELP)?.{0,12}",
            0..12,
        )
    ) {
        let _ = whole(lines.join("\n").as_bytes());
    }

    #[test]
    fn what_is_written_is_read(value in 0.0f64..1e15, label in "[a-z\"\\\\\n]{0,8}") {
        let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let page = format!("g{{l=\"{escaped}\",m=\"x\"}} {value}\n");
        let labels = vec![("l".to_owned(), label)];
        let read = one(&Sample { labels, ..sample("g") }, &page).unwrap();
        prop_assert!((read - value).abs() <= value * 1e-12, "{read} {value}");
    }
}
