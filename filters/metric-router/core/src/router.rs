//! The clusters of one worker.

use crate::pick::Unsteered;
use crate::rank::lot;
use crate::service::Service;
use crate::worker::Worker;
use crate::{
    Answered, Attributes, Cluster, ClusterConfig, Config, Flight, Mode, Note, Pick, Reason,
    Registry, RegistryAnswer, Response, Told, Unusable,
};
use core::time::Duration;
use shared_state::{Endpoint, LoadReport, SharedStore, UnixNanos, zone_id};

/// Clusters that are followed at most. With `*` a name comes with a request; a route may let the
/// client choose it, and nothing a client can name may grow without bound.
pub const MAX_CLUSTERS: usize = 256;

/// Value of the label `cluster` for requests of which the cluster is not known.
const NO_CLUSTER: &str = "none";

/// Number of a cluster, valid for the life of its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(usize);

/// A request on its way to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    cluster: ClusterId,
    /// What is remembered of it.
    pub flight: Flight,
}

/// A request whose cluster was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    service: usize,
    place: usize,
    is_measured: bool,
    started_at: Option<UnixNanos>,
}

impl Course {
    /// True if it is to be known how long the answer takes: see [`Router::measure`]. Then the clock is
    /// read for [`Router::arrive`], which else makes do with its last reading.
    pub const fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// It is this late.
    pub const fn begin(&mut self, now: UnixNanos) {
        self.started_at = Some(now);
    }

    /// As [`Flight::begin_after`].
    pub fn begin_after(&mut self, came_at: UnixNanos) {
        self.started_at = self.started_at.max(Some(came_at));
    }
}

/// Makes a draw of its own of the one that a request has.
const SERVICE: usize = 0x0004_0000;

/// Everything one worker knows.
#[derive(Debug)]
pub struct Router {
    config: Config,
    clusters: Vec<Cluster>,
    services: Vec<Service>,
    worker: Worker,
    /// Requests that belong to no cluster that is followed.
    unsteered: Unsteered,
    /// The proxy's zone; 0 if it is not known.
    home: u64,
}

impl Router {
    /// A worker that has seen nothing. Clusters that the configuration names are followed from the
    /// beginning, those that fall under `*` from their first request.
    pub fn new(config: Config, now: UnixNanos) -> Self {
        let most = config.steering.max_endpoints;
        let named = config.clusters.iter().filter(|_| config.mode != Mode::Off);
        let named = named.filter(|entry| entry.name != "*");
        let follow = |entry: &ClusterConfig| {
            let mut cluster = Cluster::new(&entry.name, entry.clone(), most, now);
            cluster.is_thrifty = config.is_thrifty();
            cluster
        };
        let clusters = named.map(follow).collect();
        let services = config.services.iter().cloned().map(Service::new).collect();
        Self {
            services,
            clusters,
            worker: Worker::default(),
            unsteered: Unsteered::default(),
            home: 0,
            config,
        }
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How often [`Router::tick`] wants to be called.
    pub fn tick_period(&self) -> Duration {
        self.config.tick_period()
    }

    /// True if [`Router::pick`] for this cluster, which is [found](Router::find) as `known` if it is
    /// followed, should be told its number of endpoints.
    pub fn wants_size(&self, name: &str, known: Option<ClusterId>, now: UnixNanos) -> bool {
        match self.at(known) {
            Some(cluster) => cluster.wants_size(now),
            None => self.config.mode != Mode::Off && self.config.cluster(name).is_some(),
        }
    }

    fn at(&self, id: Option<ClusterId>) -> Option<&Cluster> {
        self.clusters.get(id?.0)
    }

    /// The same of the cluster that this request went to, for [`Router::set_size`] with its response.
    /// Where the cluster was chosen by us, the proxy knows it no sooner.
    pub fn wants_size_of(&self, journey: &Journey, now: UnixNanos) -> bool {
        self.clusters.get(journey.cluster.0).is_some_and(|cluster| cluster.wants_size(now))
    }

    /// The proxy says how many endpoints the cluster of this request has.
    pub fn set_size(&mut self, journey: &Journey, size: u32, now: UnixNanos) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.set_size(size, now);
        }
    }

    /// Decides where a request to the cluster called `name` goes. `size` is what the proxy says of
    /// its number of endpoints, if it was asked.
    pub fn pick(
        &mut self,
        name: Option<&str>,
        size: Option<u32>,
        request: &dyn Attributes,
        now: UnixNanos,
        draw: u64,
    ) -> (Pick, Option<Journey>) {
        if self.config.mode == Mode::Off {
            return (self.leave(Reason::Off), None);
        }
        // A cluster without a number of endpoints is one that the proxy does not know.
        let id = name
            .and_then(|name| self.find(name).or_else(|| size.and_then(|_| self.follow(name, now))));
        let enforced = self.config.is_enforced();
        let Some((id, cluster)) = id.and_then(|id| Some((id, self.clusters.get_mut(id.0)?))) else {
            return (self.leave(Reason::UnknownCluster), None);
        };
        if let Some(size) = size {
            cluster.set_size(size, now);
        }
        let (pick, flight) = cluster.pick(request, now, draw, enforced);
        (pick, Some(Journey { cluster: id, flight }))
    }

    /// Tells the other workers of the requests to the cluster of this one, which was just picked for,
    /// and hears of theirs, where that is due.
    pub fn exchange(&mut self, store: &impl SharedStore, journey: &Journey, now: UnixNanos) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.exchange_in_turn(store, &self.worker, now);
        }
    }

    /// The cluster that a request on this route goes to, where several offer the service. While the
    /// plugin is not in force, that is the first that is named: such a route has no other.
    pub fn choose_cluster(
        &mut self,
        route: Option<&str>,
        now: UnixNanos,
        draw: u64,
    ) -> Option<Course> {
        let enforced = self.config.mode == Mode::Enforce;
        let clusters = &self.clusters;
        let fit = |name: &str| clusters.iter().find(|cluster| cluster.name == name)?.fit_share();
        let mut services = self.services.iter_mut().enumerate();
        let (at, service) = services.find(|(_, service)| service.is_for(route))?;
        let draw = lot((draw >> 32) as u32, SERVICE);
        let place = if enforced { service.choose(fit, now, draw) } else { 0 };
        Some(Course { service: at, place, is_measured: false, started_at: None })
    }

    /// Decides whether it is to be known how long the answer takes to a request that goes on this
    /// course, as `journey` if its cluster is followed. If so, [`Course::begin`] is to be called.
    pub fn measure(&mut self, course: &mut Course, journey: Option<&Journey>) {
        let is_looked_at = journey.map(|journey| !journey.flight.is_routine());
        let service = self.services.get_mut(course.service);
        course.is_measured =
            service.is_some_and(|service| service.is_to_measure(course.place, is_looked_at));
    }

    /// True if every answer of this cluster is looked at, as long as it is followed.
    pub fn looks_at_all(&self, known: Option<ClusterId>) -> bool {
        self.at(known).is_some_and(Cluster::looks_at_all)
    }

    /// Of a request that is to be looked at the clock is read with its answer only.
    pub fn reads_clock_once(&mut self, journey: &Journey) {
        let cluster = self.clusters.get_mut(journey.cluster.0);
        if let Some(cluster) = cluster.filter(|_| journey.flight.is_steered()) {
            cluster.reads_clock_once();
        }
    }

    /// The header and the cluster that a course stands for.
    pub fn course(&self, course: &Course) -> Option<(&str, &str)> {
        let config = &self.services.get(course.service)?.config;
        let (name, _) = config.clusters.get(course.place)?;
        Some((&config.header, name))
    }

    /// True if a service minds which route a request takes.
    pub fn minds_routes(&self) -> bool {
        self.config.minds_routes()
    }

    /// Takes up what came of a request that was sent on this course.
    pub fn arrive(&mut self, course: &Course, answered: Answered, now: UnixNanos) {
        if let Some(service) = self.services.get_mut(course.service) {
            let took = course.started_at.map(|started_at| now.since(started_at));
            service.answered(course.place, answered, took, now);
        }
    }

    /// Requests by service and cluster, since the last call.
    pub fn take_courses(&mut self, mut each: impl FnMut(&str, &str, u64)) {
        for service in &mut self.services {
            let name = service.config.name.clone();
            service.take_picks(|cluster, picks| each(&name, cluster, picks));
        }
    }

    /// True if [`Router::pick`] for this cluster, if there is one, needs to know the time better
    /// than by what was last read of it.
    pub fn wants_time(&self, known: Option<ClusterId>) -> bool {
        self.at(known).is_none_or(|cluster| !cluster.is_settled())
    }

    /// Accounts for a good response to a request that is routine, once.
    pub fn pass(&mut self, journey: &mut Journey, now: UnixNanos) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.pass(&mut journey.flight, now);
        }
    }

    /// Accounts for a response, once.
    pub fn respond(
        &mut self,
        store: &impl SharedStore,
        journey: &mut Journey,
        response: Response,
        now: UnixNanos,
    ) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.respond(store, &mut journey.flight, response, now);
        }
    }

    /// True if [`Router::report`] should be told what the response reports.
    pub fn wants_report(&self, journey: &Journey) -> bool {
        self.clusters.get(journey.cluster.0).is_some_and(Cluster::wants_reports)
    }

    /// The response of `served` came with a load report.
    pub fn report(
        &mut self,
        journey: &Journey,
        served: Endpoint,
        report: &LoadReport,
        now: UnixNanos,
    ) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.report(served, report, now);
        }
    }

    /// True if [`Router::set_zone`] should be told where this endpoint is, which has served.
    pub fn wants_zone(&self, journey: &Journey, served: Endpoint) -> bool {
        self.clusters.get(journey.cluster.0).is_some_and(|cluster| cluster.wants_zone(served))
    }

    /// The zone that the proxy says this endpoint is in; empty if none.
    pub fn set_zone(&mut self, journey: &Journey, served: Endpoint, zone: &str) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.set_zone(served, zone_id(zone));
        }
    }

    /// The stream is over. May be called again.
    pub fn finish(&mut self, journey: &mut Journey) {
        if let Some(cluster) = self.clusters.get_mut(journey.cluster.0) {
            cluster.finish(&mut journey.flight);
        }
    }

    /// Requests that were not steered, by cluster and reason, since the last call.
    pub fn take_unsteered(&mut self, mut each: impl FnMut(&str, Reason, u64)) {
        self.unsteered.take(|reason, count| each(NO_CLUSTER, reason, count));
        for cluster in &mut self.clusters {
            let Cluster { name, unsteered, .. } = cluster;
            unsteered.take(|reason, count| each(name, reason, count));
        }
    }

    /// The cluster called `name`, if it is followed.
    pub fn find(&self, name: &str) -> Option<ClusterId> {
        self.clusters.iter().position(|cluster| cluster.name == name).map(ClusterId)
    }

    /// Begins to follow the cluster called `name`, which the proxy has confirmed to exist. `None`
    /// if the configuration has no entry for it, or there are too many.
    pub fn follow(&mut self, name: &str, now: UnixNanos) -> Option<ClusterId> {
        if let Some(found) = self.find(name) {
            return Some(found);
        }
        let entry = self.config.cluster(name)?;
        if self.clusters.len() >= MAX_CLUSTERS {
            return None;
        }
        let most = self.config.steering.max_endpoints;
        let mut cluster = Cluster::new(name, entry.clone(), most, now);
        cluster.is_thrifty = self.config.is_thrifty();
        cluster.set_home(self.home);
        self.clusters.push(cluster);
        Some(ClusterId(self.clusters.len() - 1))
    }

    /// As [`Router::follow`], and reads what is known of the cluster, so that the request which
    /// names it first is steered by that already.
    pub fn meet(&mut self, store: &impl SharedStore, name: &str, now: UnixNanos, draw: u64) {
        if self.config.mode == Mode::Off || self.find(name).is_some() {
            return;
        }
        let id = self.follow(name, now);
        if let Some(cluster) = id.and_then(|id| self.clusters.get_mut(id.0)) {
            cluster.refresh(store, &self.worker, now, draw);
        }
    }

    /// The cluster with this number.
    pub fn cluster(&mut self, id: ClusterId) -> Option<&mut Cluster> {
        self.clusters.get_mut(id.0)
    }

    /// All clusters.
    pub fn clusters(&mut self) -> impl Iterator<Item = &mut Cluster> {
        self.clusters.iter_mut()
    }

    /// Does what is due, which at the beginning is all: a worker that takes the place of one whose
    /// VM has died then knows what that one knew of others. Renews the worker's slot, tells what
    /// changed, rebuilds snapshots. `draw` decides where new schedules begin.
    pub fn tick(&mut self, store: &impl SharedStore, now: UnixNanos, draw: u64) {
        let has_news =
            self.clusters.iter().any(|cluster| cluster.is_active || cluster.enquiry.is_some());
        let mut clusters =
            self.clusters.iter_mut().filter(|cluster| cluster.is_due(now)).peekable();
        if let Some(first) = clusters.peek_mut() {
            self.worker.refresh(store, has_news, now, &mut first.notes);
        }
        for cluster in clusters {
            cluster.publish(store, &self.worker, now);
            cluster.refresh(store, &self.worker, now, draw);
        }
    }

    /// The registries that this worker should ask now, each for one cluster.
    pub fn questions(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
    ) -> Vec<(ClusterId, Registry)> {
        // Without a slot there is no shared data either, or it is somebody else's turn.
        let owner = self.worker.slot.map(|slot| slot.owner);
        let clusters = self.clusters.iter_mut().enumerate();
        let question = |(at, cluster): (usize, &mut Cluster)| {
            Some((ClusterId(at), cluster.question(store, owner, now)?))
        };
        clusters.filter_map(question).collect()
    }

    /// Takes up what the registry of this cluster answered; `None` if it cannot be used.
    pub fn answered(
        &mut self,
        store: &impl SharedStore,
        cluster: ClusterId,
        answer: Result<RegistryAnswer<'_>, Unusable>,
        now: UnixNanos,
    ) -> Option<Told> {
        self.clusters.get_mut(cluster.0)?.answered(store, answer, now)
    }

    /// The zone of the node that the proxy runs on.
    pub fn set_home(&mut self, zone: &str) {
        self.home = zone_id(zone);
        for cluster in &mut self.clusters {
            cluster.set_home(self.home);
        }
    }

    /// What went wrong since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.clusters.iter_mut().flat_map(Cluster::take_notes).collect()
    }

    fn leave(&mut self, reason: Reason) -> Pick {
        self.unsteered.count(reason);
        Pick::Leave(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(json: &str) -> Router {
        Router::new(Config::from_json(json.as_bytes()).unwrap().value, UnixNanos::ZERO)
    }

    const ONE: &str = r#""clusters":[{"name":"a","endpoints":["127.0.0.1:1"]},{"name":"*"}]"#;

    fn pick(router: &mut Router, name: Option<&str>, size: Option<u32>) -> Pick {
        router.pick(name, size, &(), UnixNanos::from_secs(1), u64::MAX).0
    }

    fn wants_size(router: &Router, name: &str) -> bool {
        router.wants_size(name, router.find(name), UnixNanos::ZERO)
    }

    #[test]
    fn a_request_to_a_named_cluster_is_steered() {
        let mut router = router(&format!("{{{ONE}}}"));
        assert!(!wants_size(&router, "a"), "a static list needs no number");
        assert!(matches!(pick(&mut router, Some("a"), None), Pick::Steer(_)));
    }

    #[test]
    fn what_the_proxy_does_not_know_is_not_followed() {
        let mut router = router(&format!("{{{ONE}}}"));
        assert_eq!(pick(&mut router, Some("b"), None), Pick::Leave(Reason::UnknownCluster));
        assert_eq!(pick(&mut router, None, None), Pick::Leave(Reason::UnknownCluster));
        assert!(wants_size(&router, "b"));
        assert_eq!(pick(&mut router, Some("b"), Some(2)), Pick::Leave(Reason::NoEndpoints));
        let mut told = Vec::new();
        router.take_unsteered(|name, reason, count| told.push((name.to_owned(), reason, count)));
        let expected = [
            ("none".to_owned(), Reason::UnknownCluster, 2),
            ("b".to_owned(), Reason::NoEndpoints, 1),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn off_picks_nothing_and_asks_for_nothing() {
        let mut router = router(&format!(r#"{{"mode":"off",{ONE}}}"#));
        assert!(!wants_size(&router, "b"));
        assert_eq!(pick(&mut router, Some("a"), None), Pick::Leave(Reason::Off));
    }
}
