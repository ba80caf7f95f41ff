//! A plugin as a filter: its callbacks, and what their answers mean.

use crate::exports::Exports;
use crate::iteration::{DataStatus, HeadersStatus, TrailersStatus};
use crate::stream::{BodyView, FilterKind, LocalReply, Way};
use crate::vm::{Callback, Context, Entry, Outcome};
use crate::worker::Turn;

/// A filter's VM and context, if there is something to call.
pub(crate) enum Guest {
    Call {
        vm: usize,
        context: u32,
    },
    /// Not there, or open when failed: as if the filter did not exist.
    Absent,
    /// The VM is dead and the plugin is closed when failed.
    Failed,
}

impl Turn<'_> {
    pub(crate) fn wasm_headers(
        &mut self,
        id: u64,
        filter: usize,
        way: Way,
        end_stream: bool,
    ) -> HeadersStatus {
        let (vm, context) = match self.guest(id, filter, way == Way::Request) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return HeadersStatus::Continue,
            Guest::Failed => return self.refuse_headers(id, filter),
        };
        let count = self.show_headers(id, filter, way);
        let name = match way {
            Way::Request => "proxy_on_request_headers",
            Way::Response => "proxy_on_response_headers",
        };
        let result = self.call_stream(vm, context, name, |store, exports| {
            let callback = match way {
                Way::Request => &exports.request_headers,
                Way::Response => &exports.response_headers,
            };
            callback.call(store, (context, count, u32::from(end_stream)))
        });
        let Some((result, replied)) = result else { return self.refuse_headers(id, filter) };
        let plain_stop = self.allows_stop(id, filter);
        let status = match result {
            _ if replied => HeadersStatus::StopAll,
            // 2 is ContinueAndEndStream, of which Envoy's host knows nothing.
            0 | 2 => HeadersStatus::Continue,
            1 if plain_stop => HeadersStatus::Stop,
            _ => HeadersStatus::StopAll,
        };
        if status == HeadersStatus::Continue {
            self.with_side(id, filter, way, |side| side.headers_visible = false);
        }
        status
    }

    pub(crate) fn wasm_data(
        &mut self,
        id: u64,
        filter: usize,
        way: Way,
        end_stream: bool,
    ) -> DataStatus {
        let (vm, context) = match self.guest(id, filter, false) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return DataStatus::Continue,
            Guest::Failed => return self.refuse_data(id, filter),
        };
        let len = self.show_body(id, filter, way, end_stream);
        let name = match way {
            Way::Request => "proxy_on_request_body",
            Way::Response => "proxy_on_response_body",
        };
        let result = self.call_stream(vm, context, name, |store, exports| {
            let callback = match way {
                Way::Request => &exports.request_body,
                Way::Response => &exports.response_body,
            };
            callback.as_ref().map(|f| f.call(store, (context, len, u32::from(end_stream))))
        });
        let Some((result, replied)) = result else { return self.refuse_data(id, filter) };
        let status = match result {
            _ if replied => DataStatus::NoBuffer,
            0 => DataStatus::Continue,
            1 | 2 => DataStatus::Buffer,
            _ => DataStatus::NoBuffer,
        };
        let view = if status == DataStatus::Buffer { BodyView::Buffered } else { BodyView::None };
        self.with_side(id, filter, way, |side| side.body = view);
        status
    }

    pub(crate) fn wasm_trailers(&mut self, id: u64, filter: usize, way: Way) -> TrailersStatus {
        let (vm, context) = match self.guest(id, filter, false) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return TrailersStatus::Continue,
            Guest::Failed => {
                self.fail_stream(id, filter);
                return TrailersStatus::Stop;
            }
        };
        let count = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return TrailersStatus::Stop };
            if let Some(side) = stream.side(filter, way) {
                side.trailers_visible = true;
            }
            stream.half(way).trailers.as_ref().map_or(0, |trailers| trailers.len() as u32)
        };
        let name = match way {
            Way::Request => "proxy_on_request_trailers",
            Way::Response => "proxy_on_response_trailers",
        };
        let result = self.call_stream(vm, context, name, |store, exports| {
            let callback = match way {
                Way::Request => &exports.request_trailers,
                Way::Response => &exports.response_trailers,
            };
            callback.as_ref().map(|f| f.call(store, (context, count)))
        });
        let Some((result, replied)) = result else {
            self.fail_stream(id, filter);
            return TrailersStatus::Stop;
        };
        if replied || result != 0 {
            return TrailersStatus::Stop;
        }
        self.with_side(id, filter, way, |side| side.trailers_visible = false);
        TrailersStatus::Continue
    }

    /// Makes the context of one filter before its first callback.
    pub(crate) fn wasm_create(&mut self, id: u64, filter: usize) {
        let _ = self.guest(id, filter, true);
    }

    /// Runs `on_log` of one filter; creates its context first if the request never got here.
    pub(crate) fn wasm_log(&mut self, id: u64, filter: usize) {
        if let Guest::Call { vm, context } = self.guest(id, filter, true) {
            let _ = self.invoke(vm, context, Callback::Log, "proxy_on_log", |store, exports| {
                exports.log.as_ref().map(|f| f.call(store, context))
            });
            self.run_deferred();
        }
    }

    /// Runs `on_done` and `on_delete` of one filter and forgets its context.
    pub(crate) fn wasm_done(&mut self, id: u64, filter: usize) {
        let Guest::Call { vm: index, context } = self.guest(id, filter, false) else { return };
        // The answer of a stream's on_done is ignored.
        let _ = self.invoke(index, context, Callback::Log, "proxy_on_done", |store, exports| {
            exports.done.as_ref().map(|f| f.call(store, context))
        });
        let _ = self.invoke(index, context, Callback::Log, "proxy_on_delete", |store, exports| {
            exports.delete.as_ref().map(|f| f.call(store, context))
        });
        if let Some(state) = self.state(index) {
            state.remove_context(context);
        }
        self.run_deferred();
    }

    /// The context to call; made on the way of a request when `create` says so.
    pub(crate) fn guest(&mut self, id: u64, filter: usize, create: bool) -> Guest {
        let (index, root, context, plugin) = {
            let shared = self.shared.borrow();
            let filter = shared.streams.get(&id).and_then(|stream| stream.filters.get(filter));
            let Some(FilterKind::Wasm(wasm)) = filter.map(|filter| &filter.kind) else {
                return Guest::Absent;
            };
            let alive = self.lives(wasm.vm, wasm.generation);
            if !alive && (wasm.plugin.config.fail_open || wasm.failure_replied) {
                return Guest::Absent;
            }
            if !alive {
                return Guest::Failed;
            }
            (wasm.vm, wasm.root, wasm.context, wasm.plugin.clone())
        };
        if let Some(context) = context {
            return Guest::Call { vm: index, context };
        }
        if !create {
            return Guest::Absent;
        }
        let Some(state) = self.state(index) else { return Guest::Absent };
        let context = state.add_context(Context::Stream { root, stream: id, filter });
        let name = "proxy_on_context_create";
        let outcome = self.invoke(index, context, Callback::Stream, name, |store, exports| {
            exports.context_create.as_ref().map(|f| f.call(store, (context, root)))
        });
        self.with_wasm(id, filter, |wasm| wasm.context = Some(context));
        self.run_deferred();
        match outcome {
            Outcome::Failed if plugin.config.fail_open => Guest::Absent,
            Outcome::Failed => Guest::Failed,
            _ => Guest::Call { vm: index, context },
        }
    }

    /// Calls a stream callback and does what it asked for. `None`: the VM has failed, and the
    /// plugin is closed when failed. The flag: a local reply was sent.
    pub(crate) fn call_stream(
        &mut self,
        index: usize,
        context: u32,
        name: &'static str,
        run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<u32>>,
    ) -> Option<(u32, bool)> {
        let outcome = self.invoke(index, context, Callback::Stream, name, run);
        let state = self.state(index)?;
        let replied = std::mem::take(&mut state.stop_iteration);
        let open = match state.contexts.get(&context) {
            Some(Context::Stream { root, .. }) => {
                let root = state.contexts.get(root);
                matches!(root, Some(Context::Root { plugin, .. }) if plugin.config.fail_open)
            }
            _ => false,
        };
        let result = outcome.or(0);
        self.run_deferred();
        match result {
            None if open => Some((0, false)),
            None => None,
            Some(result) => Some((result, replied)),
        }
    }

    fn refuse_headers(&mut self, id: u64, filter: usize) -> HeadersStatus {
        self.fail_stream(id, filter);
        HeadersStatus::StopAll
    }

    fn refuse_data(&mut self, id: u64, filter: usize) -> DataStatus {
        self.fail_stream(id, filter);
        DataStatus::NoBuffer
    }

    /// The 503 of a dead VM, once a stream.
    fn fail_stream(&mut self, id: u64, filter: usize) {
        let first =
            self.with_wasm(id, filter, |wasm| !std::mem::replace(&mut wasm.failure_replied, true));
        if first == Some(true) {
            let details = "wasm_fail_stream".to_owned();
            let grpc_status = Some(14);
            let reply = LocalReply { status: 503, details, grpc_status, ..LocalReply::default() };
            if self.abort_reply(id) {
                self.reply_past_filters(id, reply);
            } else {
                self.local_reply(id, reply);
            }
        }
    }

    /// Whether a local reply has come as far as this filter: what it says instead goes past all.
    fn abort_reply(&self, id: u64) -> bool {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return false };
        let has_headers = stream.response.headers.is_some();
        let Some(exchange) = stream.exchange() else { return false };
        let due = exchange.replied && !exchange.response_started && has_headers;
        if due {
            stream.response.aborted = true;
        }
        due
    }

    fn show_headers(&self, id: u64, filter: usize, way: Way) -> u32 {
        self.with_side(id, filter, way, |side| side.headers_visible = true);
        let mut shared = self.shared.borrow_mut();
        let owner = if way == Way::Request { shared.request_owner(id) } else { id };
        let stream = shared.streams.get_mut(&owner);
        let headers = stream.and_then(|stream| stream.half(way).headers.as_ref());
        headers.map_or(0, |headers| headers.len() as u32)
    }

    /// A filter that held the body before sees all of it, else what has just come.
    fn show_body(&self, id: u64, filter: usize, way: Way, end_stream: bool) -> u32 {
        let mut shared = self.shared.borrow_mut();
        let Some(stream) = shared.streams.get_mut(&id) else { return 0 };
        let Some(side) = stream.side(filter, way) else { return 0 };
        side.end_seen = end_stream;
        let buffering = side.body == BodyView::Buffered;
        if !buffering {
            side.body = BodyView::InFlight;
        }
        let half = stream.half(way);
        let len = if buffering {
            half.hold();
            half.buffered.as_ref().map_or(0, |held| held.len())
        } else {
            half.in_flight.len()
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    fn allows_stop(&self, id: u64, filter: usize) -> bool {
        let allowed =
            self.with_wasm(id, filter, |wasm| wasm.plugin.config.allow_on_headers_stop_iteration);
        allowed == Some(true)
    }

    pub(crate) fn with_side(
        &self,
        id: u64,
        filter: usize,
        way: Way,
        run: impl FnOnce(&mut crate::stream::Side),
    ) {
        if let Some(stream) = self.shared.borrow_mut().streams.get_mut(&id)
            && let Some(side) = stream.side(filter, way)
        {
            run(side);
        }
    }

    fn with_wasm<R>(
        &self,
        id: u64,
        filter: usize,
        run: impl FnOnce(&mut crate::stream::WasmFilter) -> R,
    ) -> Option<R> {
        let mut shared = self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id)?;
        match &mut stream.filters.get_mut(filter)?.kind {
            FilterKind::Wasm(wasm) => Some(run(wasm)),
            _ => None,
        }
    }
}
