use super::*;
use proptest::prelude::*;
use shared_state::{MemoryStore, zone_id};

fn registry() -> Registry {
    Registry {
        cluster: "consul".to_owned(),
        path: "/v1/health/service/app?passing".to_owned(),
        host: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
    }
}

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(1_000_000 + millis)
}

fn ok(body: &str) -> RegistryAnswer<'_> {
    RegistryAnswer { status: Some(200), body: body.as_bytes() }
}

fn list(body: &str) -> Vec<Listed> {
    read(ok(body), Label::parse("version=v2").as_ref()).unwrap().0
}

fn entry(address: &str, port: u32, rest: &str) -> String {
    format!(
        r#"{{"Node":{{"Address":"10.9.9.9"}},"Service":{{"Address":"{address}","Port":{port}{rest}}}}}"#
    )
}

#[test]
fn an_entry_is_an_endpoint_with_what_is_known_of_it() {
    let body = r#"[{"Node":{"Address":"10.0.0.1","Meta":{"zone":"z1"}},
        "Service":{"Address":"10.0.0.2","Port":8080,"Tags":["a"],
          "Meta":{"version":"v2","priority":"1"},"Weights":{"Passing":7,"Warning":2}},
        "Checks":[{"Status":"passing"}]}]"#;
    let expected = Listed {
        weight: 7,
        priority: 1,
        zone: zone_id("z1"),
        is_canary: true,
        ..Listed::new("10.0.0.2:8080".parse().unwrap())
    };
    assert_eq!(list(body), [expected]);
}

#[test]
fn a_service_without_an_address_is_where_its_node_is() {
    assert_eq!(list(&format!("[{}]", entry("", 80, "")))[0].endpoint.to_string(), "10.9.9.9:80");
}

#[test]
fn a_locality_goes_before_metadata_and_a_tag_is_a_label() {
    let rest = r#","Locality":{"Zone":"z2"},"Meta":{"zone":"z1"},"Tags":["version=v2"]"#;
    let listed = list(&format!("[{}]", entry("1.1.1.1", 80, rest)))[0];
    assert_eq!((listed.zone, listed.is_canary), (zone_id("z2"), true));
}

#[test]
fn a_warning_has_its_own_weight_and_a_critical_check_leaves_the_endpoint_out() {
    let of = |status: &str| {
        let service =
            r#""Service":{"Address":"1.1.1.1","Port":1,"Weights":{"Passing":9,"Warning":3}}"#;
        list(&format!(
            r#"[{{{service},"Checks":[{{"Status":"passing"}},{{"Status":"{status}"}}]}}]"#
        ))
    };
    assert_eq!((of("passing")[0].weight, of("warning")[0].weight), (9, 3));
    assert!(of("critical").is_empty() && of("maintenance").is_empty());
}

#[test]
fn what_cannot_be_steered_to_is_left_out_and_counted() {
    let entries = [
        entry("app.internal", 80, ""),
        entry("1.1.1.1", 0, ""),
        entry("1.1.1.1", 70_000, ""),
        entry("1.1.1.1", 80, ""),
        entry("1.1.1.1", 80, ""),
        entry("::1", 80, ""),
    ];
    let (list, left_out) = read(ok(&format!("[{}]", entries.join(","))), None).unwrap();
    let told: Vec<_> = list.iter().map(|listed| listed.endpoint.to_string()).collect();
    assert_eq!((told, left_out), (vec!["1.1.1.1:80".to_owned(), "[::1]:80".to_owned()], 4));
}

#[test]
fn the_list_is_bounded() {
    let entries: Vec<_> = (0..2000).map(|port| entry("1.1.1.1", 1000 + port, "")).collect();
    let (list, left_out) = read(ok(&format!("[{}]", entries.join(","))), None).unwrap();
    assert_eq!(list.len(), usize::from(MAX_MEMBERS));
    assert_eq!(left_out, 2000 - list.len());
}

#[test]
fn what_is_no_answer_says_why() {
    let status = |status| RegistryAnswer { status, body: b"[]" };
    assert_eq!(read(status(Some(500)), None), Err(Unusable::Status(500)));
    assert_eq!(read(status(None), None), Err(Unusable::Status(0)));
    let long = " ".repeat(MAX_ANSWER_BYTES + 1);
    assert_eq!(read(ok(&long), None), Err(Unusable::TooLong));
    let deep = format!(r#"[{{"Service":{}{}}}]"#, "[".repeat(20), "]".repeat(20));
    for body in ["", "{}", "null", "[1]", r#"[{"Node":{}}]"#, "[", deep.as_str()] {
        assert_eq!(read(ok(body), None), Err(Unusable::Shape), "{body}");
    }
    assert_eq!(read(ok("[]"), None), Ok((Vec::new(), 0)), "nobody is an answer, too");
}

#[test]
fn one_of_two_workers_asks_and_the_other_when_that_one_has_ended() {
    let store = MemoryStore::default();
    let enquiry = || Enquiry::new("backend", registry(), None);
    let (mut one, mut two) = (enquiry(), enquiry());
    let mut asked = [0, 0];
    for tick in 0..200 {
        asked[0] += usize::from(one.is_due(&store, Some(1), at(tick * 100)));
        asked[1] += usize::from(two.is_due(&store, Some(2), at(tick * 100)));
    }
    assert_eq!(asked, [4, 0], "every five seconds of twenty");
    for tick in 200..260 {
        asked[1] += usize::from(two.is_due(&store, Some(2), at(tick * 100)));
    }
    assert!(asked[1] >= 1);
}

#[test]
fn without_shared_data_each_asks_for_itself() {
    let mut nobody = Enquiry::new("backend", registry(), None);
    assert!(!nobody.is_due(&MemoryStore::default(), None, at(0)), "its slot will come");
    let store = MemoryStore::default();
    store.fail_with(10);
    let mut enquiry = Enquiry::new("backend", registry(), None);
    assert!(enquiry.is_due(&store, Some(1), at(0)));
    assert!(!enquiry.is_due(&store, Some(1), at(1)));
    assert!(nobody.is_due(&store, None, at(0)));
}

#[test]
fn an_answer_reaches_all_workers_and_a_bad_one_changes_nothing() {
    let store = MemoryStore::default();
    let mut enquiry = Enquiry::new("backend", registry(), None);
    let members = Members::key("backend");
    let good = format!("[{},{}]", entry("1.1.1.2", 80, ""), entry("1.1.1.1", 80, ""));
    let (_, told) = enquiry.answered(&store, &members, ok(&good), at(0)).unwrap();
    assert_eq!(told, Told { listed: 2, left_out: 0, is_new: true });
    let (_, told) = enquiry.answered(&store, &members, ok(&good), at(1)).unwrap();
    assert!(!told.is_new);
    assert!(enquiry.answered(&store, &members, ok("nonsense"), at(2)).is_err());
    let listing = shared_state::read(&store, enquiry.listing_key()).unwrap().unwrap();
    let addresses: Vec<_> = listing.list.iter().map(|it| it.endpoint.to_string()).collect();
    assert_eq!(addresses, ["1.1.1.1:80", "1.1.1.2:80"]);
    let members = shared_state::read(&store, &members).unwrap().unwrap();
    assert_eq!(members.endpoints().count(), 2, "health-signal polls them, too");
}

proptest! {
    #[test]
    fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(RegistryAnswer { status: Some(200), body: &body }, None);
    }

    #[test]
    fn any_values_in_the_right_places_are_taken_or_left_out(
        address in "[0-9.:a-z]{0,12}", port in any::<i64>(), weight in any::<f64>(),
        zone in ".{0,8}", status in "passing|warning|critical|[a-z]{0,4}",
    ) {
        let zone = zone.replace(['"', '\\'], "").replace(|c: char| c.is_control(), "");
        let weight = if weight.is_finite() { weight } else { 1.0 };
        let body = format!(
            r#"[{{"Node":{{"Address":"{address}"}},"Service":{{"Port":{port},
               "Weights":{{"Passing":{weight:e}}},"Meta":{{"zone":"{zone}"}}}},
               "Checks":[{{"Status":"{status}"}}]}}]"#
        );
        let (list, left_out) = read(ok(&body), None).unwrap();
        prop_assert!(list.len() + left_out <= 1);
        prop_assert!(list.iter().all(|listed| listed.weight >= 1));
    }
}
