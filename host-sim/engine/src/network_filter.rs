//! A plugin as a network filter: its callbacks, and what their answers mean.
//!
//! A context ends as Envoy ends those of TCP: close, done, log, delete, unlike HTTP's log first. A
//! plugin that fails takes its connection with it, unless it is open by `fail_open`; with
//! `failure_policy: FAIL_OPEN` only later connections pass.

use crate::exports::Exports;
use crate::stream::{BodyView, Way};
use crate::vm::{Callback, Entry};
use crate::wasm_filter::Guest;
use crate::worker::Turn;
use host_sim_abi::PeerType;

impl Turn<'_> {
    /// `proxy_on_new_connection`, which makes the context. False: the rest of the chain waits.
    pub(crate) fn network_new_connection(&mut self, id: u64, filter: usize) -> bool {
        let (vm, context) = match self.guest(id, filter, true) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return self.is_connection(id),
            Guest::Failed => return self.fail_connection(id),
        };
        self.network_call(id, vm, context, "proxy_on_new_connection", |store, exports| {
            exports.new_connection.as_ref().map(|f| f.call(store, context))
        })
    }

    /// `proxy_on_downstream_data`. False: the bytes stay.
    pub(crate) fn network_data(&mut self, id: u64, filter: usize, end_stream: bool) -> bool {
        let (vm, context) = match self.guest(id, filter, false) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return true,
            Guest::Failed => return self.fail_connection(id),
        };
        let len = self.show_bytes(id, filter, Way::Request);
        let name = "proxy_on_downstream_data";
        let passes = self.network_call(id, vm, context, name, |store, exports| {
            let callback = exports.downstream_data.as_ref()?;
            Some(callback.call(store, (context, len, u32::from(end_stream))))
        });
        self.hide_bytes(id, filter, Way::Request, passes);
        passes
    }

    /// `proxy_on_upstream_data`, and at the end `proxy_on_upstream_connection_close`, which Envoy
    /// makes up from it. False: the bytes stay.
    pub(crate) fn network_upstream_data(
        &mut self,
        id: u64,
        filter: usize,
        end_stream: bool,
    ) -> bool {
        let (vm, context) = match self.guest(id, filter, false) {
            Guest::Call { vm, context } => (vm, context),
            Guest::Absent => return self.is_connection(id),
            Guest::Failed => return self.fail_connection(id),
        };
        let len = self.show_bytes(id, filter, Way::Response);
        let name = "proxy_on_upstream_data";
        let passes = self.network_call(id, vm, context, name, |store, exports| {
            let callback = exports.upstream_data.as_ref()?;
            Some(callback.call(store, (context, len, u32::from(end_stream))))
        });
        self.hide_bytes(id, filter, Way::Response, passes);
        if end_stream && self.is_connection(id) {
            self.network_peer_closed(vm, context, PeerType::Unknown, true);
        }
        passes
    }

    /// The end of a filter's context, if it has one.
    pub(crate) fn network_close(&mut self, id: u64, filter: usize, by: PeerType) {
        let Guest::Call { vm, context } = self.guest(id, filter, false) else { return };
        self.network_peer_closed(vm, context, by, false);
        let steps: [(&'static str, Step); 3] = [
            ("proxy_on_done", |exports, store, context| {
                let called = exports.done.as_ref().map(|f| f.call(store, context));
                called.map(|called| called.map(|_| ()))
            }),
            ("proxy_on_log", |exports, store, context| {
                exports.log.as_ref().map(|f| f.call(store, context))
            }),
            ("proxy_on_delete", |exports, store, context| {
                exports.delete.as_ref().map(|f| f.call(store, context))
            }),
        ];
        for (name, step) in steps {
            if let Some(vm) = self.vm(vm) {
                let _ = vm.invoke(context, Callback::Log, name, |store, exports| {
                    step(exports, store, context)
                });
            }
        }
        if let Some(vm) = self.vm(vm) {
            vm.store.data_mut().remove_context(context);
        }
        self.run_deferred();
    }

    fn network_peer_closed(&mut self, vm: usize, context: u32, by: PeerType, upstream: bool) {
        let Some(vm) = self.vm(vm) else { return };
        let name = if upstream {
            "proxy_on_upstream_connection_close"
        } else {
            "proxy_on_downstream_connection_close"
        };
        let _ = vm.invoke(context, Callback::Stream, name, |store, exports| {
            let callback =
                if upstream { &exports.upstream_close } else { &exports.downstream_close };
            callback.as_ref().map(|f| f.call(store, (context, by.raw())))
        });
        self.run_deferred();
    }

    /// Calls, does what the callback asked for; true: go on.
    fn network_call(
        &mut self,
        id: u64,
        vm: usize,
        context: u32,
        name: &'static str,
        run: impl FnOnce(&mut Entry<'_>, &Exports) -> Option<wasmtime::Result<u32>>,
    ) -> bool {
        match self.call_stream(vm, context, name, run) {
            Some((action, _)) => action == 0 && self.is_connection(id),
            None => self.fail_connection(id),
        }
    }

    fn hide_bytes(&self, id: u64, filter: usize, way: Way, passes: bool) {
        if passes {
            self.with_side(id, filter, way, |side| side.body = BodyView::None);
        }
    }

    fn fail_connection(&mut self, id: u64) -> bool {
        self.close_connection(id, PeerType::Local, false);
        false
    }
}

type Step = fn(&Exports, &mut Entry<'_>, u32) -> Option<wasmtime::Result<()>>;
