//! Breakers whose number clients decide.

use super::*;

const TENANTS: &str = r#"{"scopes":[{"by":["header:x-tenant"],"slots":64}]}"#;

fn trip_tenant(proxy: &mut Proxy, name: &str) {
    for _ in 0..5 {
        let exchange = proxy.send(&tenant(name)).1.unwrap();
        proxy.end(exchange, ended(1, 500, 1));
    }
}

#[test]
fn the_failures_of_one_tenant_leave_the_others_untouched() {
    let mut proxy = Proxy::new(TENANTS);
    trip_tenant(&mut proxy, "acme");
    assert!(is_rejected(&proxy.send(&tenant("acme")).0));
    for other in 0..50 {
        assert!(!is_rejected(&proxy.send(&tenant(&format!("t{other}"))).0), "{other}");
    }
    assert!(!is_rejected(&proxy.send(&incoming(&[])).0), "without a tenant there is no breaker");
    for key in proxy.store.keys() {
        assert!(!key.contains("acme"), "{key}");
    }
}

#[test]
fn a_flood_of_invented_tenants_makes_no_more_records_than_there_are_slots() {
    let mut proxy = Proxy::new(TENANTS);
    trip_tenant(&mut proxy, "acme");
    for turn in 0..900 {
        let exchange = proxy.send(&tenant(&format!("flood-{turn}"))).1.unwrap();
        proxy.end(exchange, ended(1, 500, 1));
    }
    assert!(proxy.store.keys().len() <= 64 + 1, "slots and the seed");
    assert!(is_rejected(&proxy.send(&tenant("acme")).0), "it keeps its place");
    let events = proxy.filter.take_events();
    let full = |(_, event): &(_, Event)| *event == Event::Degraded(Degradation::NoSlot);
    assert!(events.iter().any(full));
}

#[test]
fn composites_have_a_breaker_for_each_combination() {
    let json = r#"{"scopes":[{"by":["route","header:x-tenant"]},{"name":"both","by":["cluster","route"]}]}"#;
    let mut proxy = Proxy::new(json);
    trip_tenant(&mut proxy, "acme");
    let elsewhere = Incoming { route: Some("search"), ..tenant("acme") };
    assert!(!is_rejected(&proxy.send(&elsewhere).0));
    assert!(is_rejected(&proxy.send(&tenant("acme")).0));
    assert!(proxy.store.keys().iter().any(|key| key.starts_with("weir/2/breaker/both/#")));
}
