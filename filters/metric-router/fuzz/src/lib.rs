//! What the fuzzer does with its input: any bytes are an answer, and none may harm.

use metric_router_core::{Config, MAX_ANSWER_BYTES, RegistryAnswer, Router, Unusable};
use shared_state::{Listing, MAX_MEMBERS, Members, MemoryStore, UnixNanos, read};

const NOW: UnixNanos = UnixNanos::from_secs(1_395_066_363);

/// Asks a registry, and is given the answer.
pub fn registry(input: &[u8]) {
    let json = r#"{"clusters":[{"name":"backend","canary":{"label":"version=v2","percent":10},
        "endpoints_from":{"cluster":"consul","path":"/v1/health/service/app"}}]}"#;
    let config = Config::from_json(json.as_bytes()).expect("the text above is a configuration");
    let mut router = Router::new(config.value, NOW);
    let store = MemoryStore::default();
    router.tick(&store, NOW, 1);
    let (cluster, _) = router.questions(&store, NOW).remove(0);
    let answer = |body| Ok::<_, Unusable>(RegistryAnswer { status: Some(200), body });
    let told = router.answered(&store, cluster, answer(input), NOW);
    assert!(told.is_none() || input.len() <= MAX_ANSWER_BYTES);
    let listing = read(&store, &Listing::key("backend")).expect("what was written can be read");
    let members = read(&store, &Members::key("backend")).expect("what was written can be read");
    match told {
        Some(told) => {
            let listing = listing.expect("what was taken up is told to the others");
            assert_eq!(listing.list.len(), told.listed);
            assert!(told.listed <= usize::from(MAX_MEMBERS));
            let endpoints: Vec<_> = listing.list.iter().map(|listed| listed.endpoint).collect();
            assert!(endpoints.is_sorted() && listing.list.iter().all(|listed| listed.weight > 0));
            let members: Vec<_> = members.unwrap_or_default().endpoints().collect();
            assert!(endpoints.iter().all(|endpoint| members.contains(endpoint)));
        }
        None => assert!(listing.is_none(), "what cannot be used changes nothing"),
    }
    // And is used by the pick that follows.
    router.tick(&store, NOW.plus(core::time::Duration::from_secs(1)), 2);
}
