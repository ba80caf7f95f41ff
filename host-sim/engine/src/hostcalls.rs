//! The hostcalls, one family a file, and their linking.
//!
//! Every call of ABI 0.1.0, 0.2.0 and 0.2.1 is linked: a module never fails to load for want of a
//! function that Envoy has.

mod buffer;
mod clock;
mod context;
pub(crate) mod dns;
mod foreign;
mod grpc;
mod header;
mod http_call;
mod log;
mod metric;
mod property;
mod queue;
mod reply;
mod shared_data;
mod signature;
mod stream;
mod timer;
mod wasi;

use crate::exports::Exports;
use crate::fault::{Fault, Reply};
use crate::grpc::GrpcView;
use crate::guest_memory::Guest;
use crate::plugin::Plugin;
use crate::vm::{Callback, VmState};
use crate::{CallbackEnd, HostcallView, LogLevel, Verdict};
use host_sim_abi::{AbiVersion, Status};
use wasmtime::Linker;

macro_rules! link {
    ($linker:ident, $plugin:ident, {
        $($name:literal => $call:path, ($($arg:ident: $ty:ty),*);)+
    }) => {$(
        if $plugin.allows($name) {
            $linker.func_wrap(
                "env",
                $name,
                |mut guest: Guest<'_>, $($arg: $ty),*| -> wasmtime::Result<i32> {
                    let args = [$(Word::word($arg)),*];
                    let answer = match enter(&mut guest, $name, &args)? {
                        Some(status) => Ok(status.raw()),
                        None => Fault::answer($call(&mut guest, $($arg),*)),
                    };
                    leave(&guest, $name, &args, &answer);
                    answer
                },
            )?;
        } else {
            $linker.func_wrap("env", $name, |guest: Guest<'_>, $(_: $ty),*| -> i32 {
                restricted(&guest, $name);
                Status::InternalFailure.raw()
            })?;
        }
    )+};
}

/// Links everything a module of the plugin's ABI version may import.
pub(crate) fn link(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link_context(linker, plugin)?;
    link_stream(linker, plugin)?;
    link_calls(linker, plugin)?;
    link_state(linker, plugin)?;
    link_extras(linker, plugin)?;
    if plugin.code.abi == AbiVersion::V0_1_0 {
        link_old(linker, plugin)?;
    }
    wasi::link(linker, plugin)
}

fn link_context(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "proxy_log" => log::write, (level: u32, ptr: u32, len: u32);
        "proxy_get_current_time_nanoseconds" => clock::now, (out: u32);
        "proxy_set_tick_period_milliseconds" => timer::set_period, (period: u32);
        "proxy_set_effective_context" => context::set_effective, (context: u32);
        "proxy_done" => context::done, ();
        "proxy_get_status" => context::status, (code: u32, ptr: u32, len: u32);
        "proxy_get_property" => property::get, (path: u32, path_len: u32, ptr: u32, len: u32);
        "proxy_set_property" => property::set, (path: u32, path_len: u32, ptr: u32, len: u32);
        "proxy_call_foreign_function" => foreign::call,
            (name: u32, name_len: u32, args: u32, args_len: u32, ptr: u32, len: u32);
    });
    if plugin.code.abi >= AbiVersion::V0_2_1 {
        link!(linker, plugin, { "proxy_get_log_level" => log::level, (out: u32); });
    }
    Ok(())
}

fn link_stream(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "proxy_get_header_map_value" => header::value,
            (map: u32, key: u32, key_len: u32, ptr: u32, len: u32);
        "proxy_add_header_map_value" => header::add,
            (map: u32, key: u32, key_len: u32, value: u32, value_len: u32);
        "proxy_replace_header_map_value" => header::replace,
            (map: u32, key: u32, key_len: u32, value: u32, value_len: u32);
        "proxy_remove_header_map_value" => header::remove, (map: u32, key: u32, key_len: u32);
        "proxy_get_header_map_pairs" => header::pairs, (map: u32, ptr: u32, len: u32);
        "proxy_set_header_map_pairs" => header::set_pairs, (map: u32, ptr: u32, len: u32);
        "proxy_get_header_map_size" => header::size, (map: u32, out: u32);
        "proxy_get_buffer_bytes" => buffer::bytes,
            (buffer: u32, start: u32, max: u32, ptr: u32, len: u32);
        "proxy_get_buffer_status" => buffer::status, (buffer: u32, len: u32, flags: u32);
        "proxy_set_buffer_bytes" => buffer::set,
            (buffer: u32, start: u32, size: u32, ptr: u32, len: u32);
        "proxy_send_local_response" => reply::send,
            (status: u32, details: u32, details_len: u32, body: u32, body_len: u32,
             headers: u32, headers_len: u32, grpc_status: i32);
    });
    if plugin.code.abi >= AbiVersion::V0_2_0 {
        link!(linker, plugin, {
            "proxy_continue_stream" => stream::resume, (stream: u32);
            "proxy_close_stream" => stream::close, (stream: u32);
        });
    }
    Ok(())
}

fn link_calls(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "proxy_http_call" => http_call::dispatch,
            (cluster: u32, cluster_len: u32, headers: u32, headers_len: u32, body: u32,
             body_len: u32, trailers: u32, trailers_len: u32, timeout_ms: i32, out: u32);
        "proxy_grpc_call" => grpc::call,
            (service: u32, service_len: u32, name: u32, name_len: u32, method: u32,
             method_len: u32, metadata: u32, metadata_len: u32, message: u32, message_len: u32,
             timeout_ms: u32, out: u32);
        "proxy_grpc_stream" => grpc::stream,
            (service: u32, service_len: u32, name: u32, name_len: u32, method: u32,
             method_len: u32, metadata: u32, metadata_len: u32, out: u32);
        "proxy_grpc_send" => grpc::send, (id: u32, ptr: u32, len: u32, end: u32);
        "proxy_grpc_cancel" => grpc::cancel, (id: u32);
        "proxy_grpc_close" => grpc::close, (id: u32);
    });
    Ok(())
}

fn link_state(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "proxy_get_shared_data" => shared_data::get,
            (key: u32, key_len: u32, ptr: u32, len: u32, cas: u32);
        "proxy_set_shared_data" => shared_data::set,
            (key: u32, key_len: u32, value: u32, value_len: u32, cas: u32);
        "proxy_register_shared_queue" => queue::register, (name: u32, name_len: u32, out: u32);
        "proxy_resolve_shared_queue" => queue::resolve,
            (vm_id: u32, vm_id_len: u32, name: u32, name_len: u32, out: u32);
        "proxy_enqueue_shared_queue" => queue::enqueue, (token: u32, ptr: u32, len: u32);
        "proxy_dequeue_shared_queue" => queue::dequeue, (token: u32, ptr: u32, len: u32);
        "proxy_define_metric" => metric::define, (kind: u32, name: u32, name_len: u32, out: u32);
        "proxy_increment_metric" => metric::increment, (id: u32, amount: i64);
        "proxy_record_metric" => metric::record, (id: u32, value: u64);
        "proxy_get_metric" => metric::get, (id: u32, out: u32);
    });
    Ok(())
}

/// What Envoy offers beyond the ABI: of its own, and because toolchains ask for it.
fn link_extras(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "envoy_resolve_dns" => dns::resolve, (name: u32, name_len: u32, out: u32);
    });
    linker.func_wrap("env", "pthread_equal", |a: u32, b: u32| -> u32 { u32::from(a == b) })?;
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: u32| {})?;
    Ok(())
}

/// The calls that 0.2.0 replaced. The specification gives three of them no result; Envoy links them
/// with one, and a module that imports them otherwise does not load.
fn link_old(linker: &mut Linker<VmState>, plugin: &Plugin) -> wasmtime::Result<()> {
    link!(linker, plugin, {
        "proxy_continue_request" => stream::resume_request, ();
        "proxy_continue_response" => stream::resume_response, ();
        "proxy_clear_route_cache" => clear_route_cache, ();
        "proxy_get_configuration" => buffer::configuration, (ptr: u32, len: u32);
    });
    Ok(())
}

fn clear_route_cache(guest: &mut Guest<'_>) -> Reply {
    foreign::clear_route_cache(guest);
    Ok(())
}

/// Counts the call, forbids what Envoy forbids while the module initialises or allocates, and asks
/// an observer, whose answer it gives.
fn enter(
    guest: &mut Guest<'_>,
    name: &'static str,
    args: &[u64],
) -> wasmtime::Result<Option<Status>> {
    let state = guest.data_mut();
    state.hostcalls += 1;
    let memory = state.memory.map_or(0, |memory| memory.data_size(&*guest));
    guest.data_mut().use_hostcall(name, args, memory)?;
    let state = guest.data();
    if (state.allocating || state.initializing) && name != "proxy_log" {
        let when = if state.allocating { "the allocator" } else { "the module's initialisation" };
        return Err(wasmtime::Error::msg(format!(
            "restricted_callback: {name} is not allowed in {when}"
        )));
    }
    let Some(observer) = &guest.data().observer else { return Ok(None) };
    match observer.before(guest.data().origin(), &view(guest, name, args)) {
        Verdict::Proceed => Ok(None),
        Verdict::Answer(status) => Ok(Some(status)),
        Verdict::Trap(reason) => Err(wasmtime::Error::msg(reason)),
    }
}

/// Calls the module back while one of its own hostcalls runs, for the few that do so in Envoy.
fn reenter(
    guest: &mut Guest<'_>,
    context: u32,
    view: GrpcView,
    name: &'static str,
    run: impl FnOnce(&mut Guest<'_>, &Exports) -> Option<wasmtime::Result<()>>,
) -> Reply {
    let state = guest.data_mut();
    let Some(exports) = state.exports.clone().filter(|exports| exports.has(name)) else {
        return Ok(());
    };
    let (observer, callback) = (state.observer.clone(), state.callback);
    let (current, entered) = (state.current, state.entered);
    let outer = std::mem::replace(&mut state.grpc, view);
    (state.current, state.entered, state.callback) = (context, context, Callback::Other);
    if let Some(observer) = &observer {
        observer.enter(guest.data().origin(), name);
    }
    let before = guest.get_fuel().unwrap_or(0);
    let result = run(guest, &exports);
    let fuel = before - guest.get_fuel().unwrap_or(before).min(before);
    let state = guest.data_mut();
    state.current = context;
    let trapped = matches!(result, Some(Err(_)));
    if let Some(observer) = &observer {
        let end = CallbackEnd { fuel, returned: None, trapped };
        observer.callback(guest.data().origin(), name, end);
    }
    let state = guest.data_mut();
    (state.current, state.entered) = (current, entered);
    (state.callback, state.grpc) = (callback, outer);
    result.transpose().map(|_| ()).map_err(Fault::Trap)
}

/// Tells an observer, if there is one.
fn leave(guest: &Guest<'_>, name: &'static str, args: &[u64], answer: &wasmtime::Result<i32>) {
    if let Some(observer) = &guest.data().observer {
        let status = answer.as_ref().ok().and_then(|raw| Status::from_raw(*raw));
        let view = view(guest, name, args);
        observer.hostcall(guest.data().origin(), &view, status);
        let stack = || {
            let trace = wasmtime::WasmBacktrace::force_capture(guest);
            guest.data().plugin.code.debug.frames(&trace)
        };
        observer.answered(guest.data().origin(), &view, status, &stack);
    }
}

fn view<'a>(guest: &'a Guest<'_>, name: &'static str, args: &'a [u64]) -> HostcallView<'a> {
    let memory = guest.data().memory.map_or(&[][..], |memory| memory.data(guest));
    HostcallView { name, args, memory }
}

/// An argument as an observer sees it.
trait Word {
    fn word(self) -> u64;
}

impl Word for u32 {
    fn word(self) -> u64 {
        self.into()
    }
}

impl Word for i32 {
    fn word(self) -> u64 {
        self.cast_unsigned().into()
    }
}

impl Word for u64 {
    fn word(self) -> u64 {
        self
    }
}

impl Word for i64 {
    fn word(self) -> u64 {
        self.cast_unsigned()
    }
}

fn restricted(guest: &Guest<'_>, name: &str) {
    let state = guest.data();
    let message = format!("Attempted call to restricted proxy-wasm capability: {name}");
    state.shared.borrow().log(LogLevel::Error, Some(state.plugin.name()), &message);
}
