//! The bytes of each record, pinned.
//!
//! Modules of different builds read each other's records while a proxy is being updated. When one
//! of these tests fails, a layout has changed: bump `SCHEMA_VERSION`, so that the other build does
//! not read it, and only then put the bytes that the failure prints in place of the old ones.

use core::time::Duration;
use shared_state::{
    ActiveKeys, AllFlights, BreakerRecord, Endpoint, EndpointHealth, Flights, HealthState, Holding,
    Lease, Listed, Listing, LoadReport, Member, Members, PermitTable, Progress, Record,
    ReportedResponse, Transition, UnixNanos, WorkerEntry, WorkerReport, WorkerSlots, decode,
    encode, metric_id,
};

fn pinned<R: Record + PartialEq + core::fmt::Debug>(record: &R, golden: &str) {
    let bytes = encode(record);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden, "the layout has changed");
    assert_eq!(decode::<R>(&bytes).as_ref(), Ok(record));
}

fn endpoint() -> Endpoint {
    "192.0.2.7:8080".parse().unwrap()
}

fn report() -> LoadReport {
    LoadReport {
        received_at: UnixNanos::from_secs(8),
        application_utilization: 0.5,
        cpu_utilization: 0.25,
        mem_utilization: 0.125,
        rps: 100.0,
        eps: 1.0,
        named: vec![(metric_id("named_metrics.rif"), 3.0)],
    }
}

#[test]
fn a_lease() {
    let lease = Lease { owner: 7, term: 2, expires_at: UnixNanos::from_secs(3) };
    pinned(&lease, "57520102070000000000000002000000005ed0b20000000087b3969c");
}

#[test]
fn members() {
    let member = Member { endpoint: endpoint(), last_seen: UnixNanos::from_secs(5), misses: 1 };
    pinned(
        &Members { list: vec![member] },
        "57520202010000000000000000000000ffffc0000207901f00f2052a0100000001d86b6faf",
    );
}

#[test]
fn requests_in_flight() {
    let progress = Progress { in_flight: 3, worked_us: 70_000, answered: 2 };
    let order = Flights::order(&[endpoint()]);
    let written_at = UnixNanos::from_secs(5);
    let endpoints = vec![progress];
    let flights = Flights { owner: 7, written_at, order, concurrency: 4, endpoints };
    pinned(
        &AllFlights { workers: vec![flights] },
        "57520c020100070000000000000000f2052a01000000c1c35d98fadd526a04010003701101000200e65a48ee",
    );
}

#[test]
fn a_listing() {
    let listed =
        Listed { weight: 3, priority: 1, zone: 7, is_canary: true, ..Listed::new(endpoint()) };
    pinned(
        &Listing { told_at: UnixNanos::from_secs(5), list: vec![listed] },
        "57520b0200f2052a01000000010000000000000000000000ffffc0000207901f03000107000000000000000104732d7c",
    );
}

#[test]
fn worker_slots() {
    let now = UnixNanos::from_secs(10);
    let claim = WorkerSlots::claim(None, None, now, Duration::from_secs(3));
    let Transition::Store(slots, _) = claim else { panic!("the first claim is stored") };
    pinned(&slots, "5752030201e40b5402000000010001e40b54020000000042dc0603000000f7e403df");
}

#[test]
fn a_response_with_a_report() {
    let reported = ReportedResponse { endpoint: endpoint(), status: 200, report: report() };
    pinned(
        &reported,
        "5752140200000000000000000000ffffc0000207901fc800010050d6dc010000000000003f0000803e0000003e0000c8420000803f01005bacfae541e27876000040408c28d6ea",
    );
}

#[test]
fn a_workers_report() {
    let entry = WorkerEntry {
        in_flight: 2,
        succeeded: 10,
        failed: 1,
        consecutive_failures: 1,
        latency_us: 1500,
        last_success: UnixNanos::from_secs(6),
        last_failure: UnixNanos::from_secs(7),
        report: Some(report()),
        agent: Some((UnixNanos::from_secs(5), 0x0102)),
        ..WorkerEntry::new(endpoint())
    };
    let record =
        WorkerReport { owner: 3, written_at: UnixNanos::from_secs(9), entries: vec![entry] };
    pinned(
        &record,
        "575204020300000000000000001a711802000000010000000000000000000000ffffc0000207901f020000000a00000000000000010000000000000001000000dc05000000bca0650100000000863ba101000000010050d6dc010000000000003f0000803e0000003e0000c8420000803f01005bacfae541e27876000040400100f2052a010000000201000000000000804c5539",
    );
}

#[test]
fn an_endpoints_health() {
    let record = EndpointHealth {
        state: HealthState::Degraded,
        written_at: UnixNanos::from_secs(9),
        state_since: UnixNanos::from_secs(3),
        in_flight: 4,
        latency_us: 12_000,
        error_ratio: 0.25,
        queue_depth: Some(7),
        connections: None,
        weight: 0.5,
        max_connections: Some(64),
        flap_penalty: 1000.0,
        report: None,
    };
    pinned(
        &record,
        "5752050203001a711802000000005ed0b20000000004000000e02e00000000803e0107000000000000000001400000000000003f00007a440072889eb0",
    );
}

#[test]
fn a_closed_breaker() {
    pinned(
        &BreakerRecord::default(),
        "57520702000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000090506d88",
    );
}

#[test]
fn a_table_of_permits() {
    let mut table = PermitTable::default();
    table.settle(UnixNanos::from_nanos(5), Duration::from_secs(3));
    let expires_at = UnixNanos::from_secs(3);
    table.put(Holding { fingerprint: 0x0102, owner: 7, count: 2, expires_at });
    pinned(
        &table,
        "57520902050000000000000001000201000000000000070000000000000002000000005ed0b2000000001001c666",
    );
}

#[test]
fn active_keys() {
    let mut keys = ActiveKeys::default();
    keys.roll(UnixNanos::from_secs(8), Duration::from_secs(1));
    keys.add(0x0102, 3, 4);
    keys.roll(UnixNanos::from_secs(9), Duration::from_secs(1));
    keys.add(0x0102, 3, 5);
    pinned(&keys, "57520a020900000000000000010002010000000000000300000005000000040000008cf8ae71");
}
