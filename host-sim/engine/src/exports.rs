//! A module's callbacks, looked up once: a call costs no name and no signature check.

use crate::plugin::Plugin;
use crate::vm::{Entry, VmState};
use host_sim_abi::AbiVersion;
use wasmtime::{Extern, Instance, Store, TypedFunc, WasmParams, WasmResults};

type Callback<P, R> = Option<TypedFunc<P, R>>;

/// Callbacks that take a context and the end-of-stream flag, whose shape 0.1.0 lacks.
pub(crate) enum OnHeaders {
    Absent,
    V1(TypedFunc<(u32, u32), u32>),
    V2(TypedFunc<(u32, u32, u32), u32>),
}

/// See the module. An absent callback is not called.
pub(crate) struct Exports {
    /// Names of those that are there.
    present: Vec<&'static str>,
    pub(crate) context_create: Callback<(u32, u32), ()>,
    pub(crate) vm_start: Callback<(u32, u32), u32>,
    pub(crate) validate_configuration: Callback<(u32, u32), u32>,
    pub(crate) configure: Callback<(u32, u32), u32>,
    pub(crate) tick: Callback<u32, ()>,
    pub(crate) queue_ready: Callback<(u32, u32), ()>,
    pub(crate) new_connection: Callback<u32, u32>,
    pub(crate) downstream_data: Callback<(u32, u32, u32), u32>,
    pub(crate) upstream_data: Callback<(u32, u32, u32), u32>,
    pub(crate) downstream_close: Callback<(u32, u32), ()>,
    pub(crate) upstream_close: Callback<(u32, u32), ()>,
    pub(crate) request_headers: OnHeaders,
    pub(crate) request_body: Callback<(u32, u32, u32), u32>,
    pub(crate) request_trailers: Callback<(u32, u32), u32>,
    pub(crate) response_headers: OnHeaders,
    pub(crate) response_body: Callback<(u32, u32, u32), u32>,
    pub(crate) response_trailers: Callback<(u32, u32), u32>,
    pub(crate) http_call_response: Callback<(u32, u32, u32, u32, u32), ()>,
    pub(crate) grpc_receive: Callback<(u32, u32, u32), ()>,
    pub(crate) grpc_initial_metadata: Callback<(u32, u32, u32), ()>,
    pub(crate) grpc_trailing_metadata: Callback<(u32, u32, u32), ()>,
    pub(crate) grpc_close: Callback<(u32, u32, u32), ()>,
    pub(crate) resolve_dns: Callback<(u32, u32, u32), ()>,
    pub(crate) log: Callback<u32, ()>,
    pub(crate) done: Callback<u32, u32>,
    pub(crate) delete: Callback<u32, ()>,
}

impl Exports {
    /// Fails when a callback has another signature than the ABI's.
    pub(crate) fn find(
        instance: &Instance,
        store: &mut Store<VmState>,
        plugin: &Plugin,
    ) -> Result<Self, String> {
        let mut finder = Finder { instance, store, plugin, present: Vec::new() };
        let old = plugin.code.abi == AbiVersion::V0_1_0;
        Ok(Self {
            context_create: finder.find("proxy_on_context_create")?,
            vm_start: finder.find("proxy_on_vm_start")?,
            validate_configuration: finder.find("proxy_validate_configuration")?,
            configure: finder.find("proxy_on_configure")?,
            tick: finder.find("proxy_on_tick")?,
            queue_ready: finder.find("proxy_on_queue_ready")?,
            new_connection: finder.find("proxy_on_new_connection")?,
            downstream_data: finder.find("proxy_on_downstream_data")?,
            upstream_data: finder.find("proxy_on_upstream_data")?,
            downstream_close: finder.find("proxy_on_downstream_connection_close")?,
            upstream_close: finder.find("proxy_on_upstream_connection_close")?,
            request_headers: finder.find_headers("proxy_on_request_headers", old)?,
            request_body: finder.find("proxy_on_request_body")?,
            request_trailers: finder.find("proxy_on_request_trailers")?,
            response_headers: finder.find_headers("proxy_on_response_headers", old)?,
            response_body: finder.find("proxy_on_response_body")?,
            response_trailers: finder.find("proxy_on_response_trailers")?,
            http_call_response: finder.find("proxy_on_http_call_response")?,
            grpc_receive: finder.find("proxy_on_grpc_receive")?,
            grpc_initial_metadata: finder.find("proxy_on_grpc_receive_initial_metadata")?,
            grpc_trailing_metadata: finder.find("proxy_on_grpc_receive_trailing_metadata")?,
            grpc_close: finder.find("proxy_on_grpc_close")?,
            resolve_dns: finder.find("envoy_on_resolve_dns")?,
            log: finder.find("proxy_on_log")?,
            done: finder.find("proxy_on_done")?,
            delete: finder.find("proxy_on_delete")?,
            present: finder.present,
        })
    }

    /// Whether the module has this callback, and may be called.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.present.contains(&name)
    }
}

struct Finder<'a> {
    instance: &'a Instance,
    store: &'a mut Store<VmState>,
    plugin: &'a Plugin,
    present: Vec<&'static str>,
}

impl Finder<'_> {
    /// A callback that the plugin's capabilities leave out is as good as absent.
    fn find<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
    ) -> Result<Callback<P, R>, String> {
        match self.instance.get_export(&mut *self.store, name) {
            Some(Extern::Func(function)) if self.plugin.allows(name) => {
                self.present.push(name);
                function.typed(&*self.store).map(Some).map_err(|e| {
                    format!("Failed to load Wasm module: bad signature of {name}: {e:#}")
                })
            }
            _ => Ok(None),
        }
    }

    fn find_headers(&mut self, name: &'static str, old: bool) -> Result<OnHeaders, String> {
        Ok(if old {
            self.find(name)?.map_or(OnHeaders::Absent, OnHeaders::V1)
        } else {
            self.find(name)?.map_or(OnHeaders::Absent, OnHeaders::V2)
        })
    }
}

impl OnHeaders {
    pub(crate) fn call(
        &self,
        store: &mut Entry<'_>,
        (context, count, end): (u32, u32, u32),
    ) -> Option<wasmtime::Result<u32>> {
        match self {
            Self::Absent => None,
            Self::V1(function) => Some(function.call(store, (context, count))),
            Self::V2(function) => Some(function.call(store, (context, count, end))),
        }
    }
}
