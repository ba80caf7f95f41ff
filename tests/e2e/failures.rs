//! What broken endpoints cost, in short: the long form is `make experiments-envoy`.
//!
//! Bounds are counts of requests, and far from what the proxy does by itself: round robin fails a tenth
//! of the requests here, full scan most. The load does not wait for a machine that is busy with other
//! tests, but no more than a few requests are ever under way: what piles up in front of a proxy that
//! stands still would all be in hand when something breaks.

use host_sim_rig::service_time::ServiceTime;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_tests::experiment::{Arm, Setting, Stand, With, dies, kill_cycles, sinkhole};
use weir_tests::on_both_hosts;

/// 20 endpoints that are not busy: what fails, fails for being broken.
fn setting() -> Setting {
    Setting {
        slots: 16,
        service_time: ServiceTime::Fixed(Duration::from_millis(5)),
        // Of a busy machine nobody may have to wait in vain.
        patience: Duration::from_secs(20),
        // Three are, where nothing has to wait.
        at_once: 8,
        ..Setting::usual(400.0)
    }
}

const WORKERS: NonZeroU32 = NonZeroU32::new(2).expect("two");

const NOTHING: With = With { retries: false, reloads: false, pinned: false };
const RETRIES: With = With { retries: true, ..NOTHING };

/// One run of three counts: how long the proxy stands still between two of its thoughts is not its own
/// to say.
const RUNS: usize = 3;

on_both_hosts! {
    async fn a_sinkhole_costs_few_requests_whatever_it_reports(host: Host) {
        for (arm, idle) in [(Arm::Weir, false), (Arm::Weir, true), (Arm::WeirPrivate, true)] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                let stand = Stand::start(&host, arm, &setting(), WORKERS, 1, NOTHING).await?;
                runs.push(sinkhole(&stand, 2, 2, idle).await?);
                // Not one need fail: who has been slow, or failed once, is asked late. Each of two
                // endpoints opens its breaker with the fifth failure in a row.
                if runs.last().is_some_and(|own| own.failed_after <= 24 && own.failed_later <= 8) {
                    break;
                }
                assert!(runs.len() < RUNS, "{arm} {idle}: {runs:?}\n{}", stand.proxy().log());
            }
        }
        // That they are broken shows here.
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            let stand = Stand::start(&host, Arm::FullScan, &setting(), WORKERS, 1, NOTHING).await?;
            runs.push(sinkhole(&stand, 1, 2, false).await?);
            if runs.last().is_some_and(|own| own.percent() > 8.0) {
                break;
            }
            assert!(runs.len() < RUNS, "the one to beat is beaten by this: {runs:?}");
        }
    }

    async fn a_dead_endpoint_costs_what_it_had_in_hand_and_few_more(host: Host) {
        for arm in [Arm::Weir, Arm::WeirPrivate] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                let stand = Stand::start(&host, arm, &setting(), WORKERS, 1, NOTHING).await?;
                runs.push(dies(&stand, 2, 2, false).await?);
                if runs.last().is_some_and(|own| own.sent_to_the_dead() <= 10) {
                    break;
                }
                assert!(runs.len() < RUNS, "{arm}: {runs:?}\n{}", stand.proxy().log());
            }
        }
    }

    async fn with_retries_no_client_sees_endpoints_die(host: Host) {
        for arm in [Arm::Weir, Arm::WeirPrivate] {
            let stand = Stand::start(&host, arm, &setting(), WORKERS, 1, RETRIES).await?;
            let cycles = kill_cycles(&stand, 3, None).await?;
            assert_eq!(cycles.failed, 0, "{arm}: {cycles:?}\n{}", stand.proxy().log());
        }
    }
}
