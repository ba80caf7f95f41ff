//! The simulation against what theory says of it, and against itself.

use super::*;

fn experiment(text: &str) -> Experiment {
    Experiment::parse(text).unwrap_or_else(|error| panic!("{error}\nin:\n{text}"))
}

fn run(text: &str, jobs: usize) -> Results {
    let options = SimulateOptions { jobs, ..SimulateOptions::default() };
    simulate(&experiment(text), &options, |_| {}).unwrap()
}

fn median(results: &Results, arm: &str, measure: &str) -> f64 {
    let arm = results.arm(arm).unwrap();
    arm.estimate("all", measure).unwrap_or_else(|| panic!("{measure}")).median
}

#[test]
fn one_slot_with_exponential_work_has_the_sojourn_time_of_a_textbook() {
    // M/M/1: exponential with mean 10 ms / (1 - 0.7) = 33.3 ms, so P50 23.1 and P90 76.8 ms.
    let results = run(
        "experiment: M/M/1\nseeds: 3\nwarmup: 20s\nduration: 400s\nload: {rho: 0.7}\n\
         interval: 100s\n\
         endpoints: [{name: e, service_time: {distribution: exponential, mean: 10ms}}]\n\
         arms: [{name: only, policy: {round_robin: {}}}]\n",
        2,
    );
    let (p50, p90) = (median(&results, "only", "p50"), median(&results, "only", "p90"));
    assert!((p50 - 23.1).abs() < 0.7, "{p50}");
    assert!((p90 - 76.8).abs() < 3.0, "{p90}");
    assert!((median(&results, "only", "goodput") - 70.0).abs() < 1.0);
}

#[test]
fn several_slots_have_the_waiting_probability_of_a_textbook() {
    // M/M/4 at 0.75: Erlang's C is 0.5094; who waits waits exponentially with mean 10 ms.
    let results = run(
        "experiment: M/M/4\nseeds: 3\nwarmup: 20s\nduration: 300s\nload: {rho: 0.75}\n\
         interval: 100s\n\
         endpoints: [{name: e, slots: 4, service_time: {distribution: fixed, mean: 10ms}}]\n\
         arms: [{name: only, policy: {round_robin: {}}}]\n",
        2,
    );
    // With fixed service about half of them wait not at all: M/D/4's probability is 0.46.
    let p50 = median(&results, "only", "p50");
    assert!((10.0..10.6).contains(&p50), "{p50}");
    let p90 = median(&results, "only", "p90");
    assert!((14.0..20.0).contains(&p90), "{p90}");
}

#[test]
fn taking_turns_at_equal_endpoints_with_a_metronome_never_queues() {
    let results = run(
        "experiment: turns\nseeds: 3\nduration: 10s\nload: {rho: 0.95, arrivals: constant}\n\
         endpoints: [{name: e, count: 7, service_time: {distribution: fixed, mean: 20ms}}]\n\
         arms: [{name: turns, policy: {round_robin: {}}}, {name: drawn, policy: {random: {}}}]\n",
        1,
    );
    assert_eq!(median(&results, "turns", "p999"), 20.0);
    assert!(median(&results, "drawn", "p90") > 30.0);
}

const STRONG: &str = "
experiment: strongly different speeds
seeds: 3
warmup: 2s
duration: 6s
endpoints: [{name: e, count: 20, slots: 4, service_time: {mean: 40ms, cv: 1}, speeds: [0.5, 1, 1, 1.5]}]
load: {rho: 0.75}
clients: [{timeout: 2s}]
arms:
- {name: round robin, policy: {round_robin: {}}}
- {name: random, policy: {random: {}}}
- {name: two choices, policy: {least_request: {}}}
- {name: full scan, policy: {least_request: {selection_method: full_scan}}}
- {name: weighted, policy: {client_side_weighted_round_robin: {blackout_period: 100ms}}}
- {name: peak ewma, policy: {peak_ewma: {}}}
- {name: oracle, policy: {oracle: {}}}
";

#[test]
fn nothing_is_better_than_the_oracle_and_round_robin_is_the_worst_with_different_speeds() {
    let results = run(STRONG, 2);
    let p99 = |arm: &str| median(&results, arm, "p99");
    for arm in ["round robin", "random", "two choices", "full scan", "weighted", "peak ewma"] {
        assert!(p99("oracle") <= p99(arm), "{arm}:\n{}", results.text());
        let ratio = results.arm(arm).unwrap().ratio("oracle", "all", "p99").unwrap();
        assert!(ratio.median >= 1.0, "{arm}: {ratio:?}");
    }
    assert!(p99("full scan") < p99("two choices"), "{}", results.text());
    assert!(p99("two choices") < p99("round robin"), "{}", results.text());
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let text = STRONG.replace("seeds: 3", "seeds: 2").replace("duration: 6s", "duration: 2s");
    let (one, three) = (run(&text, 1), run(&text, 3));
    assert_eq!(one.json(), three.json());
    assert_eq!(one.text(), three.text());
    assert_ne!(one.arms[0].runs[0].curve, one.arms[0].runs[1].curve);
}

#[test]
fn every_arm_gets_the_same_requests() {
    let text = STRONG.replace("duration: 6s", "duration: 2s");
    let results = run(&text, 1);
    let requests = |arm: &ArmResult| -> Vec<f64> {
        arm.runs.iter().map(|run| run.values["all"]["requests"]).collect()
    };
    assert!(results.arms.iter().all(|arm| requests(arm) == requests(&results.arms[0])));
}

#[test]
fn a_sinkhole_draws_traffic_to_it_and_outlier_detection_stops_that() {
    let results = run(
        "experiment: two of twenty answer 503 in 1 ms\nseeds: 3\nwarmup: 2s\nduration: 10s\n\
         endpoints: [{name: e, count: 20, slots: 4, service_time: {mean: 40ms, cv: 1}}]\n\
         load: {rho: 0.75}\n\
         failures: [{at: 0s, endpoints: [e3, e7], answers: {status: 503}}]\n\
         windows: [{name: later, from: 5s, to: 10s}]\n\
         arms:\n\
         - {name: turns, policy: {round_robin: {}}}\n\
         - {name: scan, policy: {least_request: {selection_method: full_scan}}}\n\
         - {name: ejects, policy: {round_robin: {}}, outlier_detection: {}}\n\
         - {name: retries, policy: {round_robin: {}}, retries: 2}\n\
         - {name: oracle, policy: {oracle: {}}}\n",
        2,
    );
    let errors = |arm: &str| median(&results, arm, "error_percent");
    assert!((errors("turns") - 10.0).abs() < 0.5, "{}", results.text());
    assert!(errors("scan") > 30.0, "{}", results.text());
    assert!(errors("retries") < 0.5, "{}", results.text());
    // The sinkhole cannot be known before it is there; what is on its way then is lost.
    assert!(errors("oracle") < 0.1, "{}", results.text());
    let later = results.arm("ejects").unwrap().estimate("later", "error_percent").unwrap();
    assert_eq!(later.median, 0.0, "{}", results.text());
}

#[test]
fn a_dead_endpoint_loses_what_it_had_and_comes_back_cold() {
    let results = run(
        "experiment: one dies\nseeds: 1\nwarmup: 1s\nduration: 9s\ninterval: 1s\n\
         endpoints: [{name: e, count: 4, service_time: {distribution: fixed, mean: 10ms}}]\n\
         load: {rate: 200, arrivals: constant}\n\
         failures: [{at: 3s, for: 3s, endpoints: [e0], down: {cold: {factor: 0.1, for: 1s}}}]\n\
         arms: [{name: turns, policy: {round_robin: {}}}]\n",
        1,
    );
    // A quarter of three seconds of 200 requests; none is lost to being cold, they only wait.
    let errors = median(&results, "turns", "errors");
    assert!((149.0..=152.0).contains(&errors), "{errors}");
    assert!(median(&results, "turns", "p999") > 500.0);
}

#[test]
fn clients_time_out_and_try_again() {
    let results = run(
        "experiment: the endpoint is ten times too slow\nseeds: 1\nwarmup: 0s\nduration: 2s\n\
         endpoints: [{name: e, slots: 100, service_time: {distribution: fixed, mean: 1s}}]\n\
         load: {rate: 10, arrivals: constant}\n\
         clients: [{timeout: 100ms, retries: 2, backoff: 50ms}]\n\
         arms: [{name: only, policy: {round_robin: {}}}]\n",
        1,
    );
    assert_eq!(median(&results, "only", "error_percent"), 100.0);
    // Three times 100 ms, and 50 ms twice.
    assert_eq!(median(&results, "only", "p50"), 400.0);
    let sent: u32 = results.arms[0].runs[0].shares.iter().flatten().sum();
    assert!(sent > 50, "{sent} of 19 requests with three tries each");
}

#[test]
fn zones_have_their_latencies() {
    let results = run(
        "experiment: near and far\nseeds: 1\nwarmup: 0s\nduration: 10s\n\
         proxies: {count: 1, zones: [west]}\n\
         network: {latency: 1ms, between: [{zones: [west, east], latency: 20ms}]}\n\
         clients: [{zone: west}]\n\
         endpoints:\n\
         - {name: near, zone: west, service_time: {distribution: fixed, mean: 5ms}}\n\
         - {name: far, zone: east, service_time: {distribution: fixed, mean: 5ms}}\n\
         load: {rate: 10, arrivals: constant}\n\
         arms: [{name: turns, policy: {round_robin: {}}}]\n",
        1,
    );
    // To the proxy and back, to the endpoint and back, and the work.
    assert_eq!(median(&results, "turns", "p50"), 2.0 + 2.0 + 5.0);
    assert_eq!(median(&results, "turns", "p90"), 2.0 + 40.0 + 5.0);
}

#[test]
fn antagonists_slow_down_one_endpoint_after_the_other() {
    let text = "experiment: antagonists\nseeds: 1\nwarmup: 0s\nduration: 20s\n\
         endpoints: [{name: e, count: 4, slots: 4, service_time: {distribution: fixed, mean: 10ms}}]\n\
         antagonists: [{factor: 0.1, for: 1s, every: 1s}]\n\
         load: {rate: 100, arrivals: constant}\n\
         arms: [{name: turns, policy: {round_robin: {}}}]\n";
    let results = run(text, 1);
    // A quarter of the requests meets a slow endpoint, at a tenth of the speed.
    assert_eq!(median(&results, "turns", "p50"), 10.0);
    assert!((99.0..=100.1).contains(&median(&results, "turns", "p90")), "{}", results.text());
}

#[test]
fn the_table_names_arms_setting_and_ratios() {
    let text = STRONG.replace("seeds: 3", "seeds: 2").replace("duration: 6s", "duration: 2s");
    let text = run(&text, 1).text();
    for told in [
        "strongly different speeds\n20 endpoints of 4 slots at speeds 0.5, 1, 1, 1.5, lognormal work with mean 40 ms and CV 1, \
         capacity 2000 rps; 1 proxy; 1500 rps (rho 0.75) over 2 s after 2 s;",
        "2 seeds",
        "P99 ms",
        "oracle (a bound)",
        "P99 / P99 of",
    ] {
        assert!(text.contains(told), "missing: {told}\nin:\n{text}");
    }
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
}

#[test]
fn the_page_needs_nothing_else_and_has_every_arm() {
    let text = STRONG.replace("seeds: 3", "seeds: 2").replace("duration: 6s", "duration: 2s");
    let page = run(&text.replace("name: random", "name: <random>"), 1).html();
    for told in [
        "<title>strongly different speeds</title>",
        "&lt;random&gt;",
        "oracle (a bound)",
        "prefers-color-scheme: dark",
        "aria-label=\"Latency by part of the requests\"",
        "<title>e19</title>",
    ] {
        assert!(page.contains(told), "missing: {told}");
    }
    // Its one latency plot, and the shares of seven arms.
    assert_eq!(page.matches("<svg").count(), 1 + 7);
    for elsewhere in ["http:", "https:", "src=", "href=", "<script", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "a point lies nowhere");
}

const EXPECTING: &str = "
experiment: what must hold
seeds: 3
warmup: 1s
duration: 3s
endpoints: [{name: e, count: 4, slots: 2, service_time: {mean: 20ms}, speeds: [0.5, 1.5]}]
load: {rho: 0.6}
clients: [{timeout: 2s}]
arms:
- {name: turns, policy: {round_robin: {}}}
- {name: full_scan, policy: {least_request: {selection_method: full_scan}}}
- {name: oracle, policy: {oracle: {}}}
expect:
- {arm: full_scan, measure: p99, against: oracle, at_most: 5}
- {arm: full_scan, measure: p99, against: best_policy, at_most: 0.9}
- {arm: turns, measure: p99, against: best_policy, at_least: 1.01}
- {arm: turns, measure: error_percent, at_most: 50}
- {arm: oracle, measure: goodput, at_least: 100000}
";

#[test]
fn what_must_hold_is_held_against_what_was_measured() {
    let results = run(EXPECTING, 2);
    let told: Vec<_> =
        results.verdicts.iter().map(|own| (own.holds, own.against.clone())).collect();
    let scan = || Some("full_scan".to_owned());
    let expected = [
        (true, Some("oracle".to_owned())),
        // The best that is not itself, nor a bound.
        (true, Some("turns".to_owned())),
        (true, scan()),
        (true, None),
        (false, None),
    ];
    assert_eq!(told, expected, "{}", results.text());
    let text = results.text();
    assert!(text.contains("MISSED: goodput of oracle at least 100000: "), "{text}");
    assert!(results.html().contains("<b>MISSED</b>"));
}

#[test]
fn a_page_for_a_repository_has_every_figure_beside_its_command_and_is_the_same_again() {
    let page = |jobs| {
        let results = run(EXPECTING, jobs);
        markdown(&[("host-sim simulate x.yaml --seeds 3".to_owned(), results)])
    };
    let text = page(1);
    for told in [
        "| [what must hold](#what-must-hold) |",
        "4 endpoints of 2 slots at speeds 0.5, 1.5, lognormal work with mean 20 ms and CV 1",
        "240 rps (rho 0.6)",
        "3 seeds",
        "```sh\nhost-sim simulate x.yaml --seeds 3\n```",
        "P99 against full_scan | P99 against oracle |",
        "| **MISSED** | goodput of oracle | at least 100000 |",
    ] {
        assert!(text.contains(told), "missing: {told}\nin:\n{text}");
    }
    assert_eq!(text, page(3));
}

/// Two endpoints that work on what nobody waits for any more, and clients who try again.
const LASTING: &str = "
experiment: does it end
seeds: 3
warmup: 1s
duration: 20s
endpoints:
- name: e
  count: 2
  service_time: {distribution: fixed, mean: 100ms}
  keeps_working: true
load: {rho: 0.6}
clients: [{timeout: 500ms, retries: 3, backoff: 50ms}]
trouble: {from: 3s, to: 6s, patience: 6s}
cases:
- {name: calm}
- {name: a spike, load: {rho: 0.6, steps: [{at: 3s, rho: 3}, {at: 6s, rho: 0.6}]}}
arms:
- {name: open, policy: {round_robin: {}}, circuit_breakers: {}}
- {name: limited, policy: {round_robin: {}}, circuit_breakers: {max_requests: 4}}
expect:
- {arm: limited, measure: cascades, against: open, at_most: 0.1}
";

#[test]
fn work_that_nobody_waits_for_makes_trouble_outlast_its_cause_and_a_threshold_ends_it() {
    let results = run(LASTING, 2);
    let cascades =
        |arm: &str, case: usize| results.arm(arm).unwrap().by_case[case]["all"]["cascades"].median;
    let found = ["open", "limited"].map(|arm| [cascades(arm, 0), cascades(arm, 1)]);
    assert_eq!(found, [[0.0, 100.0], [0.0, 0.0]], "{}", results.text());
    assert_eq!(median(&results, "open", "cascades"), 50.0);
    assert!(results.verdicts[0].holds && results.verdicts[0].found.is_some());
    let text = markdown(&[("x".to_owned(), results.clone())]);
    assert!(text.contains("| a spike | 100.0 [100.0, 100.0] | 0.0 [0.0, 0.0] |"), "{text}");
    assert!(!text.contains("at a glance"), "{text}");
    // Where endpoints forget who has left, they work for those who wait, and most recover.
    let forgets = run(&LASTING.replace("keeps_working: true", "keeps_working: false"), 2);
    assert!(median(&forgets, "open", "cascades") < 25.0, "{}", forgets.text());
}

#[test]
fn cases_are_the_same_on_any_number_of_threads() {
    let short = LASTING.replace("seeds: 3", "seeds: 2");
    assert_eq!(run(&short, 1).json(), run(&short, 3).json());
}

const HARDLY_MOVES: &str = "
experiment: one of two hardly moves
seeds: 2
duration: 10s
load: {rate: 4}
endpoints:
- {name: e, count: 2, slots: 50, speeds: [0.001, 1], service_time: {distribution: fixed, mean: 20ms}}
clients: [{timeout: 2s}]
arms:
- {name: waits, policy: {round_robin: {}}}
- {name: once, policy: {round_robin: {}}, per_try_timeout: 200ms}
- {name: again, policy: {round_robin: {}}, per_try_timeout: 200ms, retries: 1}
- name: ejects
  policy: {round_robin: {}}
  per_try_timeout: 200ms
  outlier_detection: {max_ejection_percent: 50}
";

#[test]
fn an_attempt_that_takes_too_long_is_tried_elsewhere_and_counts_as_504() {
    let results = run(HARDLY_MOVES, 2);
    let percent = |arm| median(&results, arm, "error_percent");
    assert!((40.0..60.0).contains(&percent("waits")), "{}", results.text());
    assert!((40.0..60.0).contains(&percent("once")), "{}", results.text());
    assert_eq!(percent("again"), 0.0, "{}", results.text());
    assert!((1.0..30.0).contains(&percent("ejects")), "{}", results.text());
    assert!(median(&results, "once", "p99") < 30.0, "what is late fails");
}

#[test]
fn checks_take_a_dead_endpoint_out_and_bring_it_back() {
    let results = run(
        "experiment: one of four is dead for a while\nseeds: 2\nwarmup: 0s\nduration: 40s\n\
         endpoints: [{name: e, count: 4, slots: 4, service_time: {mean: 10ms}}]\n\
         load: {rate: 40}\n\
         failures: [{at: 0s, for: 20s, endpoints: [e2], down: {}}]\n\
         windows: [{name: found, from: 12s, to: 20s}, {name: back, from: 32s, to: 40s}]\n\
         arms:\n\
         - {name: unchecked, policy: {round_robin: {}}}\n\
         - {name: checked, policy: {round_robin: {}}, health_checks: {}}\n",
        2,
    );
    let of = |arm: &str, window, measure| {
        results.arm(arm).unwrap().estimate(window, measure).unwrap().median
    };
    assert!(of("unchecked", "found", "error_percent") > 20.0);
    assert_eq!(of("checked", "found", "errors"), 0.0, "{}", results.text());
    assert!((of("checked", "back", "share") - 1.0).abs() < 0.05, "{}", results.text());
}

/// Traps in its tenth request, and logs a warning in each.
const TRAPPER: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "not well")
  (global $requests (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $log (i32.const 3) (i32.const 0) (i32.const 8)))
    (global.set $requests (i32.add (global.get $requests) (i32.const 1)))
    (if (i32.eq (global.get $requests) (i32.const 10)) (then (unreachable)))
    (i32.const 0)))"#;

#[test]
fn a_plugin_that_traps_is_told_in_capitals_and_one_that_is_killed_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trapper.wasm"), wat::parse_str(TRAPPER).unwrap()).unwrap();
    let outcome = |more: &str, duration: &str| {
        let text = format!(
            "experiment: x\nseeds: 1\nwarmup: 0s\nduration: {duration}\n{more}\n\
             endpoints: [{{name: e, service_time: {{distribution: fixed, mean: 1ms}}}}]\n\
             load: {{rate: 10, arrivals: constant}}\n\
             arms: [{{name: own, plugins: {{suite: {{filters: [{{module: trapper.wasm}}]}}}}}}]\n"
        );
        let experiment = Experiment::parse_in(&text, folder.path()).unwrap();
        let options =
            SimulateOptions { base: folder.path().to_owned(), ..SimulateOptions::default() };
        simulate(&experiment, &options, |_| {}).unwrap()
    };
    let traps = outcome("", "2s");
    let text = traps.text();
    assert!(text.contains("!! own: trapper.wasm TRAPPED, 1 times: "), "{text}");
    assert!(text.contains("own: 10 warnings, such as: "), "{text}");
    assert!(traps.html().contains("<b>TRAP</b>"));
    assert!(markdown(&[(String::new(), traps)]).contains("**own: a VM trapped, 1 times"));
    let killed = outcome("failures: [{at: 550ms, vms_die: {}}]", "1s");
    let text = killed.text();
    assert!(text.contains("own: 1 VMs of trapper.wasm killed by the experiment"), "{text}");
    assert!(!text.contains("TRAPPED"), "{text}");
    // FAIL_CLOSED: nothing passes from then on.
    assert_eq!(median(&killed, "own", "errors"), 4.0, "{text}");
}

#[test]
fn a_failure_of_proxies_names_plugins_that_are_there_and_no_endpoints() {
    let text = "experiment: x\nduration: 1s\nload: {rate: 1}\n\
                endpoints: [{name: e, service_time: {mean: 1ms}}]\n\
                failures: [{at: 0s, endpoints: [e], vms_die: {}}, {at: 0s, down: {}}]\n\
                arms: [{name: own, policy: {random: {}}}]\n";
    let told = Experiment::parse(text).unwrap_err().to_string();
    assert!(told.contains("it hits proxies, and not endpoints"), "{told}");
    assert!(told.contains("hits nobody"), "{told}");
}
