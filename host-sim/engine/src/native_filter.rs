//! Envoy's own filters beside the plugins: `header_mutation`, `local_ratelimit`, `stateful_session`.

use crate::access_log::{FormatError, HeadersOf};
use crate::flags::ResponseFlags;
use crate::header_mutation::HeaderChanges;
use crate::iteration::HeadersStatus;
use crate::local_ratelimit::{BucketState, Quota, REFUSAL, RateLimitDecision, decide};
use crate::stats::Counter;
use crate::stream::{FilterKind, LocalReply, Way};
use crate::values::StreamValues;
use crate::worker::Turn;
use crate::{Headers, Stats};
use bytes::Bytes;
use host_sim_bootstrap::{self as bootstrap, HeaderMutations, StatefulSession};
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled `header_mutation`.
pub(crate) struct HeaderMutation {
    request: HeaderChanges,
    response: HeaderChanges,
}

/// A `local_ratelimit` and its bucket, one a process.
pub(crate) struct LocalRateLimit {
    config: bootstrap::LocalRateLimit,
    bucket: Mutex<BucketState>,
    on_refusal: HeaderChanges,
    on_pass: HeaderChanges,
    enabled: Counter,
    ok: Counter,
    rate_limited: Counter,
    enforced: Counter,
}

impl HeaderMutation {
    pub(crate) fn new(config: &HeaderMutations) -> Result<Self, FormatError> {
        Ok(Self {
            request: HeaderChanges::of_mutations(&config.request)?,
            response: HeaderChanges::of_mutations(&config.response)?,
        })
    }
}

impl LocalRateLimit {
    pub(crate) fn new(
        config: &bootstrap::LocalRateLimit,
        stats: &Stats,
    ) -> Result<Self, FormatError> {
        let prefix = format!("{}.http_local_rate_limit.", config.stat_prefix);
        let counter = |name: &str| stats.counter(&format!("{prefix}{name}"));
        let on_pass = &config.request_headers_to_add_when_not_enforced;
        Ok(Self {
            bucket: Mutex::default(),
            on_refusal: HeaderChanges::of_additions(&config.response_headers_to_add)?,
            on_pass: HeaderChanges::of_additions(on_pass)?,
            enabled: counter("enabled"),
            ok: counter("ok"),
            rate_limited: counter("rate_limited"),
            enforced: counter("enforced"),
            config: config.clone(),
        })
    }

    fn count(&self, decision: &RateLimitDecision) {
        if *decision == RateLimitDecision::Disabled {
            return;
        }
        self.enabled.inc();
        match decision {
            RateLimitDecision::Allowed(_) => self.ok.inc(),
            _ => self.rate_limited.inc(),
        }
        if matches!(decision, RateLimitDecision::Refused(_)) {
            self.enforced.inc();
        }
    }
}

/// A native filter of a stream, cheap to hold while the stream changes.
pub(crate) enum Native {
    HeaderMutation(Arc<HeaderMutation>),
    LocalRateLimit(Arc<LocalRateLimit>, Option<Quota>),
    StatefulSession(Arc<StatefulSession>),
    MissingConfig,
}

impl FilterKind {
    /// `None` for plugins.
    pub(crate) fn native(&self) -> Option<Native> {
        match self {
            Self::Wasm(_) => None,
            Self::HeaderMutation(filter) => Some(Native::HeaderMutation(filter.clone())),
            Self::LocalRateLimit(filter, quota) => {
                Some(Native::LocalRateLimit(filter.clone(), *quota))
            }
            Self::StatefulSession(filter) => Some(Native::StatefulSession(filter.clone())),
            Self::MissingConfig => Some(Native::MissingConfig),
        }
    }
}

impl Turn<'_> {
    pub(crate) fn native_headers(
        &mut self,
        id: u64,
        filter: usize,
        native: &Native,
        way: Way,
    ) -> HeadersStatus {
        match (native, way) {
            (Native::HeaderMutation(mutation), Way::Request) => {
                self.change_headers(id, Way::Request, &mutation.request);
                HeadersStatus::Continue
            }
            (Native::HeaderMutation(mutation), Way::Response) => {
                self.change_headers(id, Way::Response, &mutation.response);
                HeadersStatus::Continue
            }
            (Native::MissingConfig, Way::Request) => {
                self.flag(id, ResponseFlags::NO_FILTER_CONFIG_FOUND);
                self.local_reply(id, LocalReply { status: 500, ..LocalReply::default() });
                HeadersStatus::StopAll
            }
            (Native::MissingConfig, Way::Response) => HeadersStatus::Continue,
            (Native::StatefulSession(session), Way::Request) => {
                self.join_session(id, session);
                HeadersStatus::Continue
            }
            (Native::StatefulSession(session), Way::Response) => {
                self.tell_session(id, session);
                HeadersStatus::Continue
            }
            (Native::LocalRateLimit(limit, _), Way::Request) => self.rate_limit(id, filter, limit),
            (Native::LocalRateLimit(limit, quota), Way::Response) => {
                if let Some(quota) = quota.filter(|_| limit.config.x_ratelimit_headers) {
                    self.with_headers(id, Way::Response, |headers| {
                        for (name, value) in quota.headers() {
                            headers.set_static(name, value);
                        }
                    });
                }
                HeadersStatus::Continue
            }
        }
    }

    fn rate_limit(&mut self, id: u64, filter: usize, limit: &LocalRateLimit) -> HeadersStatus {
        let decision = {
            let mut shared = self.shared.borrow_mut();
            let (now, enabled, enforced) = (shared.now(), shared.rng.next(), shared.rng.next());
            let mut bucket = limit.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let decision = decide(&limit.config, &mut bucket, now, enabled, enforced);
            let found = shared.streams.get_mut(&id).and_then(|s| s.filters.get_mut(filter));
            if let Some(FilterKind::LocalRateLimit(_, quota)) = found.map(|found| &mut found.kind) {
                *quota = decision.quota();
            }
            decision
        };
        limit.count(&decision);
        match decision {
            RateLimitDecision::Disabled | RateLimitDecision::Allowed(_) => HeadersStatus::Continue,
            RateLimitDecision::NotEnforced(_) => {
                self.change_headers(id, Way::Request, &limit.on_pass);
                HeadersStatus::Continue
            }
            RateLimitDecision::Refused(quota) => {
                self.refuse(id, limit, quota);
                HeadersStatus::StopAll
            }
        }
    }

    fn refuse(&mut self, id: u64, limit: &LocalRateLimit, quota: Quota) {
        let mut added = Headers::new();
        if limit.config.retry_after_header {
            added.set_static("retry-after", quota.reset_seconds.to_string());
        }
        if let Some(stream) = self.shared.borrow().streams.get(&id) {
            let of = HeadersOf::Response;
            limit.on_refusal.apply(&mut added, of, &StreamValues::new(&self.engine, stream));
        }
        self.flag(id, ResponseFlags::RATE_LIMITED);
        // Envoy falls back to 429 for what is no error status.
        let status = if limit.config.status < 400 { 429 } else { limit.config.status };
        let reply = LocalReply {
            status,
            body: Bytes::from_static(REFUSAL.as_bytes()),
            headers: added.into_pairs(),
            grpc_status: None,
            details: REFUSAL.to_owned(),
        };
        self.local_reply(id, reply);
    }

    /// Applies changes whose values may look at the whole stream.
    pub(crate) fn change_headers(&self, id: u64, way: Way, changes: &HeaderChanges) {
        if changes.is_empty() {
            return;
        }
        let shared = &mut *self.shared.borrow_mut();
        let owner = if way == Way::Request { shared.request_owner(id) } else { id };
        let Some(stream) = shared.streams.get_mut(&owner) else { return };
        let Some(mut headers) = stream.half(way).headers.take() else { return };
        let of = match way {
            Way::Request => HeadersOf::Request,
            Way::Response => HeadersOf::Response,
        };
        changes.apply(&mut headers, of, &StreamValues::new(&self.engine, stream));
        stream.half(way).headers = Some(headers);
    }

    pub(crate) fn with_headers(&self, id: u64, way: Way, run: impl FnOnce(&mut Headers)) {
        let mut shared = self.shared.borrow_mut();
        let owner = if way == Way::Request { shared.request_owner(id) } else { id };
        if let Some(headers) =
            shared.streams.get_mut(&owner).and_then(|stream| stream.half(way).headers.as_mut())
        {
            run(headers);
        }
    }

    /// A route's changes of the request, before it goes upstream.
    pub(crate) fn transform_request(&self, id: u64) {
        self.transform(id, Way::Request);
    }

    /// A route's changes of the response, before the filters see it.
    pub(crate) fn transform_response(&self, id: u64) {
        self.transform(id, Way::Response);
    }

    fn transform(&self, id: u64, way: Way) {
        let engine = self.engine.clone();
        let found = {
            let mut shared = self.shared.borrow_mut();
            let stream = shared.streams.get_mut(&id);
            stream.and_then(|stream| {
                Some((stream.info.route?, stream.exchange()?.listener, stream.info.attempts))
            })
        };
        let Some((route, listener, attempts)) = found else { return };
        let Some(compiled) = engine.listener(listener) else { return };
        for transforms in compiled.transforms(route) {
            let changes =
                if way == Way::Request { &transforms.request } else { &transforms.response };
            self.change_headers(id, way, changes);
        }
        let host = engine.bootstrap().listeners.get(listener);
        let host = host.and_then(|l| l.http()?.route_config.virtual_hosts.get(route.host));
        if way == Way::Response && host.is_some_and(|h| h.include_attempt_count_in_response) {
            self.with_headers(id, way, |headers| {
                headers.set_static("x-envoy-attempt-count", attempts.to_string());
            });
        }
    }

    /// `x-envoy-attempt-count` for the upstream, where the virtual host asks for it.
    pub(crate) fn count_attempt_header(&self, id: u64, number: u32) {
        let engine = self.engine.clone();
        let wanted = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let route = stream.info.route;
            let listener = stream.exchange().map(|exchange| exchange.listener);
            let listener = listener.and_then(|at| engine.bootstrap().listeners.get(at));
            let host = listener
                .zip(route)
                .and_then(|(l, route)| l.http()?.route_config.virtual_hosts.get(route.host));
            host.is_some_and(|host| host.include_request_attempt_count)
        };
        if wanted {
            self.with_headers(id, Way::Request, |headers| {
                headers.set_static("x-envoy-attempt-count", number.to_string());
            });
        }
    }
}
