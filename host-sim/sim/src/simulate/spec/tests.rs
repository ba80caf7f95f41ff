use super::*;

const SMALL: &str = "
experiment: small
duration: 1s
load: {rho: 0.5}
endpoints:
- {name: e, count: 2, service_time: {mean: 10ms}}
arms:
- {name: a, policy: {round_robin: {}}}
";

fn problems(text: &str) -> String {
    Experiment::parse(text).unwrap_err().to_string()
}

#[test]
fn a_small_experiment_has_defaults() {
    let experiment = Experiment::parse(SMALL).unwrap();
    assert_eq!((experiment.seeds, experiment.proxies.count), (10, 1));
    assert_eq!(experiment.end(), Duration::from_secs(3));
    assert_eq!(experiment.endpoint_names(), ["e0", "e1"]);
    assert!((experiment.capacity() - 200.0).abs() < 1e-9);
}

#[test]
fn a_name_stands_for_a_group_or_for_one_of_it() {
    let more = "- {name: slow, service_time: {mean: 10ms}}\narms:";
    let experiment = Experiment::parse(&SMALL.replace("arms:", more)).unwrap();
    let named = |name| experiment.endpoints_named(name);
    assert_eq!((named("e"), named("e1"), named("slow")), (vec![0, 1], vec![1], vec![2]));
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
    let error = problems(&SMALL.replace("round_robin", "round_robbin"));
    let told = "unknown field 'round_robbin', did you mean 'round_robin'?";
    assert_eq!(error, format!("line 8 column 22: {told}"));
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "
experiment: x
duration: 0s
windows: [{name: all, from: 2s, to: 1s}]
load: {rate: 5, rho: 0.5, steps: [{at: 2s, rho: 1}, {at: 1s}]}
clients: [{share: 0}]
network: {between: [{zones: [a, wst], latency: 1ms}]}
endpoints:
- {name: e, count: 2, zone: west, service_time: {mean: 0ms}, speeds: [0]}
- {name: e1, zone: a, service_time: {mean: 1ms}}
failures:
- {at: 1s, endpoints: [f], down: {}, slow: {factor: 2}}
- {at: 1s, endpoints: [e0], every: 1s, for: 2s}
antagonists: [{factor: 0.5, for: 1s, every: 0s, endpoints: [e2]}]
arms:
- {name: a, policy: {}}
- {name: a, plugins: {}, retries: 1}
- {name: b}
expect:
- {arm: c, measure: p98, window: none, against: best, at_most: 1, at_least: 1}
- {arm: a, measure: peak_share, against: b, at_most: 1}
";
    let error = problems(text);
    for told in [
        "line 3 column 11: must be more than nothing",
        "line 4 column 18: 'all' is the name of another window",
        "line 4 column 37: a window ends after it begins",
        "line 5 column 7: needs either `rate` or `rho`",
        "line 5 column 53: needs either `rate` or `rho`",
        "line 5 column 58: steps are in order of time",
        "line 6 column 10: nobody has a share",
        "line 7 column 29: nothing is in the zone 'wst', did you mean 'west'?",
        "line 9 column 56: must be more than nothing",
        "line 9 column 70: a speed is more than 0",
        "line 10 column 10: 'e1' is the name of another endpoint or group",
        "line 12 column 3: one of `down`, `answers`, `slow` and `vms_die`, not several",
        "line 12 column 24: no endpoint or group is called 'f'",
        "line 13 column 3: one of `down`, `answers`, `slow` and `vms_die` is needed",
        "line 13 column 36: needs `for`, and a longer time",
        "line 14 column 45: must be more than nothing",
        "line 14 column 61: no endpoint or group is called 'e2'",
        "line 16 column 21: names one policy",
        "line 17 column 10: the name of another arm",
        "line 17 column 3: `retries` belongs to a `policy`; a bootstrap has its own",
        "line 17 column 22: needs a `bootstrap` or `suite`, here or in `proxies`",
        "line 18 column 3: needs either `policy` or `plugins`",
        "line 20 column 9: no arm 'c'",
        "line 20 column 21: no measure 'p98', did you mean 'p90'?",
        "line 20 column 34: no window 'none'",
        "line 20 column 49: no arm 'best'",
        "line 20 column 3: needs either `at_most` or `at_least`",
        "line 21 column 42: ratios of it mean nothing",
    ] {
        assert!(error.contains(told), "missing: {told}\nin:\n{error}");
    }
}

#[test]
fn problems_of_cases_and_of_trouble_are_told_with_their_place() {
    let more = "trouble: {from: 2s, to: 1s}
cases:
- {name: a, load: {rho: 1, rate: 1, steps: [{at: 1s}]}}
- {name: a, failures: [{at: 1s, endpoints: [f], down: {}}]}
arms:
- {name: b, plugins: {}, circuit_breakers: {}, per_try_timeout: 1s}";
    let error = problems(&SMALL.replace("arms:", more));
    for told in [
        "line 7 column 25: trouble ends after it begins",
        "line 7 column 10: must be over, with patience, before `duration`",
        "line 9 column 19: needs either `rate` or `rho`",
        "line 9 column 45: needs either `rate` or `rho`",
        "line 10 column 10: the name of another case",
        "line 10 column 45: no endpoint or group is called 'f'",
        "line 12 column 3: `circuit_breakers` belongs to a `policy`",
        "line 12 column 3: `per_try_timeout` belongs to a `policy`",
    ] {
        assert!(error.contains(told), "missing: {told}\nin:\n{error}");
    }
}

#[test]
fn files_and_modules_that_are_not_there_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let plugins =
        "{bootstrap: nowhere.yaml}}\n- {name: b, plugins: {suite: {filters: [{module: n.wasm}]}}}";
    let text = SMALL.replace("policy: {round_robin: {}}}", &format!("plugins: {plugins}"));
    assert!(Experiment::parse(&text).is_ok());
    let error = Experiment::parse_in(&text, folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 8 column 34: no file") && error.contains("no module"), "{error}");
}

#[test]
fn the_schema_describes_every_field() {
    let schema = experiment_schema();
    let mut bare = Vec::new();
    let definitions = schema["$defs"].as_object().unwrap().iter();
    for (name, definition) in definitions.chain([(&"Experiment".to_owned(), &schema)]) {
        for (field, own) in definition["properties"].as_object().into_iter().flatten() {
            if own["description"].is_null() && own["$ref"].is_null() {
                bare.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}
