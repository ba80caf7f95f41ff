use super::*;
use proptest::prelude::*;

const TAU: Duration = Duration::from_secs(8);

/// Draws that are the same every time.
struct Draws(u64);

impl Draws {
    fn exponential(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -uniform.ln()
    }
}

/// Responses of an endpoint that works on `slots` at once, `service` seconds each, and has up to
/// `most` before it, one every ten milliseconds from `from` on.
fn run(
    time: &mut ServiceTime,
    concurrency: &mut Concurrency,
    (slots, service, most): (f64, f64, u64),
    (from, count): (u64, u64),
) {
    let mut draws = Draws(from + 7);
    for number in from..from + count {
        let ahead = (number % (most + 1)) as f64;
        let took = service * draws.exponential() * crowding(ahead, slots);
        answer(time, concurrency, took, ahead, 10 * number);
        concurrency.settle();
    }
}

/// One response, as a row takes it up.
fn answer(
    time: &mut ServiceTime,
    concurrency: &mut Concurrency,
    took: f64,
    ahead: f64,
    millis: u64,
) {
    if let Some(most) = time.patience(concurrency) {
        time.progress((took / crowding(ahead, concurrency.whole())).min(most), 1.0, concurrency);
    }
    time.record(took, Some(ahead), UnixNanos::from_millis(millis), TAU, concurrency);
}

#[test]
fn nothing_is_known_before_the_first_response_and_each_request_is_taken_for_a_wait() {
    let (time, concurrency) = (ServiceTime::default(), Concurrency::default());
    assert_eq!(time.value(&concurrency), None);
    assert_eq!((time.certainty(), concurrency.comfortable()), (0.0, 1.0));
}

#[test]
fn the_concurrency_shows_by_the_requests_that_had_to_wait() {
    for (slots, comfortable) in [(1.0, 1.0), (4.0, 2.5), (16.0, 10.0)] {
        let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
        run(&mut time, &mut concurrency, (slots, 0.04, 3 * slots as u64), (1, 20_000));
        assert_eq!(concurrency.comfortable(), comfortable, "{slots}");
        let service = time.value(&concurrency).unwrap();
        assert!((0.034..0.046).contains(&service), "{slots}: {service}");
    }
}

#[test]
fn where_nobody_ever_waits_the_concurrency_is_no_more_than_was_seen() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (64.0, 0.04, 2), (1, 20_000));
    assert!(concurrency.whole() <= 3.0, "{}", concurrency.whole());
}

#[test]
fn a_few_responses_prove_nothing_and_then_a_time_is_taken_as_it_is() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (1, 1_050));
    assert_eq!((concurrency.whole(), concurrency.comfortable()), (f64::INFINITY, 1.0));
    let plain = (0..=8).map(|ahead| crowding(f64::from(ahead), 4.0)).sum::<f64>() / 9.0;
    let value = time.value(&concurrency).unwrap() / 0.04;
    assert!((0.7 * plain..1.4 * plain).contains(&value), "{value}");
}

#[test]
fn a_queue_does_not_make_an_endpoint_slow() {
    let (mut busy, mut idle) = (ServiceTime::default(), ServiceTime::default());
    let mut concurrency = Concurrency::default();
    run(&mut busy, &mut concurrency, (4.0, 0.04, 12), (1, 10_000));
    run(&mut idle, &mut concurrency, (4.0, 0.04, 1), (1, 10_000));
    let ratio = busy.value(&concurrency).unwrap() / idle.value(&concurrency).unwrap();
    assert!((0.8..1.25).contains(&ratio), "{ratio}");
}

#[test]
fn a_change_of_speed_is_followed_within_some_responses_and_one_slow_response_is_none() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (1, 5_000));
    let mut single = time;
    for millis in (50_010..50_100).step_by(10) {
        answer(&mut single, &mut concurrency, 0.04, 0.0, millis);
    }
    answer(&mut single, &mut concurrency, 2.0, 0.0, 50_110);
    assert!(single.value(&concurrency).unwrap() < 0.06, "{single:?}");
    run(&mut time, &mut concurrency, (4.0, 0.1, 8), (5_021, 40));
    assert!(time.value(&concurrency).unwrap() > 0.06, "slower: {time:?}");
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (5_061, 60));
    assert!(time.value(&concurrency).unwrap() < 0.06, "as fast as before: {time:?}");
}

#[test]
fn an_endpoint_that_does_not_answer_is_slow_before_it_has_answered() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (1, 5_000));
    let before = time.value(&concurrency).unwrap();
    let certainty = time.certainty();
    // Four at a time, and nothing comes: ten times the mean are enough.
    let ticks = (0..100).take_while(|_| !time.progress(4.0 * 0.01, 0.0, &concurrency)).count();
    assert!((8..=14).contains(&ticks), "believed after {ticks} hundredths of a second");
    let ratio = time.value(&concurrency).unwrap() / before;
    assert!((ratio - MOST_EVIDENCE).abs() < 1e-9, "no more than one can tell by now: {ratio}");
    assert!(time.certainty() < certainty, "there are few answers since");
    assert_eq!(
        time.patience(&concurrency),
        None,
        "and no change is looked for before there are more"
    );
}

#[test]
fn work_and_answers_at_the_usual_rate_are_no_change_however_long() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (1, 5_000));
    let mean = time.value(&concurrency).unwrap();
    for _ in 0..10_000 {
        assert!(!time.progress(mean, 1.0, &concurrency));
    }
}

#[test]
fn answers_that_took_no_time_make_nobody_infinitely_fast() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (1, 5_000));
    let before = time.value(&concurrency).unwrap();
    assert!(time.progress(0.0, 100.0, &concurrency));
    assert!((time.value(&concurrency).unwrap() * MOST_EVIDENCE / before - 1.0).abs() < 1e-9);
}

#[test]
fn a_clock_that_steps_back_counts_as_no_time() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    run(&mut time, &mut concurrency, (4.0, 0.04, 3), (1_000, 100));
    let before = time.value(&concurrency).unwrap();
    time.record(0.05, Some(0.0), UnixNanos::from_millis(1), TAU, &mut concurrency);
    assert!((time.value(&concurrency).unwrap() / before - 1.0).abs() < 0.1);
}

proptest! {
    #[test]
    fn a_logarithm_is_what_the_library_says(exponent in -300.0f64..300.0) {
        let number = exponent.exp();
        prop_assert!((ln(number) - number.ln()).abs() < 1e-6);
    }

    #[test]
    fn whatever_comes_the_mean_is_a_positive_number_and_the_concurrency_one_of_the_levels(
        responses in proptest::collection::vec((0.0f64..1e6, proptest::option::of(0.0f64..1e4), any::<u64>()), 1..200),
    ) {
        let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
        for (took, ahead, nanos) in &responses {
            time.record(*took, *ahead, UnixNanos::from_nanos(*nanos), TAU, &mut concurrency);
            time.progress(*took, (nanos % 3) as f64, &concurrency);
            concurrency.settle();
        }
        let value = time.value(&concurrency).unwrap();
        prop_assert!(value > 0.0 && value.is_finite(), "{value}");
        prop_assert!(concurrency.whole() >= 1.0);
        prop_assert!((1.0..=64.0).contains(&concurrency.comfortable()));
    }
}

#[test]
fn a_request_that_was_not_counted_says_how_long_it_took_and_nothing_of_the_concurrency() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    for number in 0..5_000 {
        time.record(0.04, None, UnixNanos::from_millis(10 * number), TAU, &mut concurrency);
    }
    concurrency.settle();
    assert_eq!((concurrency.whole(), concurrency.samples), (f64::INFINITY, 0.0));
    assert!((time.value(&concurrency).unwrap() - 0.04).abs() < 1e-9);
}

#[test]
fn a_worker_that_has_just_begun_learns_nothing_of_the_concurrency() {
    let (mut time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
    for number in 0..2_000 {
        let now = UnixNanos::from_millis(5_000 + number * 9 / 20);
        time.record(0.04, Some((number % 9) as f64), now, TAU, &mut concurrency);
    }
    concurrency.settle();
    assert_eq!(concurrency.whole(), f64::INFINITY);
    run(&mut time, &mut concurrency, (4.0, 0.04, 8), (900, 4_000));
    assert!(concurrency.whole() >= 3.0, "{}", concurrency.whole());
}

proptest! {
    /// What is the same under several levels is worked out once, and comes to the same.
    #[test]
    fn each_level_is_kept_as_if_it_were_alone(
        answers in proptest::collection::vec((1u32..4, 0u32..12, 0u64..3000), 1..80),
    ) {
        let (mut service_time, mut concurrency) = (ServiceTime::default(), Concurrency::default());
        let mut means = [0.0f64; LEVELS.len()];
        let mut now = UnixNanos::from_secs(100);
        let tau = Duration::from_secs(10);
        let mut last = UnixNanos::ZERO;
        for (number, (took, ahead, millis)) in answers.into_iter().enumerate() {
            let (took, ahead) = (f64::from(took) * 0.01, f64::from(ahead));
            now = now.plus(Duration::from_millis(millis));
            let gain = (1.0 - decay(now.since(last), tau)).max(1.0 / (number + 1) as f64);
            let losses = means.iter().zip(LEVELS).map(|(mean, level)| {
                let crowding = crowding(ahead, level);
                ln(mean * crowding) + (took / crowding / mean).min(MOST)
            });
            let mut expected = Concurrency { ..concurrency };
            if number as f64 >= FIRST {
                let losses: Vec<f64> = losses.collect();
                expected.learn(&losses.try_into().unwrap(), now);
            }
            for (mean, level) in means.iter_mut().zip(LEVELS) {
                *mean += (took / crowding(ahead, level) - *mean) * gain;
            }
            service_time.record(took, Some(ahead), now, tau, &mut concurrency);
            last = now;
            prop_assert_eq!(service_time.means.map(f64::to_bits), means.map(f64::to_bits));
            let learned = concurrency.losses.map(f64::to_bits);
            prop_assert_eq!(learned, expected.losses.map(f64::to_bits));
        }
    }
}
