//! The hostcalls, safe and total: each gives its result or the status as a number.
//!
//! The only file of the filters with `unsafe`. What makes it sound: pointers given to the host come
//! from slices that outlive the call, and memory received from the host was allocated by the SDK's
//! `proxy_on_memory_allocate` as a boxed slice of exactly the reported size.

#![allow(unsafe_code, reason = "hostcalls are foreign functions")]

use core::ptr::null_mut;

/// A status other than OK.
pub(crate) type Status = u32;

pub(crate) const OK: Status = 0;
pub(crate) const NOT_FOUND: Status = 1;
pub(crate) const CAS_MISMATCH: Status = 8;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_get_buffer_bytes(
        kind: u32,
        start: usize,
        most: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_property(
        path: *const u8,
        path_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_grpc_send(stream: u32, message: *const u8, size: usize, last: u32) -> u32;
    fn proxy_grpc_cancel(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

/// Where the host puts what it returns.
struct Returned {
    data: *mut u8,
    size: usize,
}

impl Returned {
    const fn new() -> Self {
        Self { data: null_mut(), size: 0 }
    }

    fn take(self, status: Status) -> Result<Vec<u8>, Status> {
        if status != OK {
            return Err(status);
        }
        if self.data.is_null() || self.size == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the host filled a boxed slice of this size that the SDK's allocator leaked to it.
        Ok(unsafe { Vec::from_raw_parts(self.data, self.size, self.size) })
    }
}

fn done(status: Status) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(status) }
}

pub(crate) fn log(level: u32, message: &str) {
    // A log that fails has nowhere to be reported.
    // SAFETY: the pointer is to a live slice.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

pub(crate) fn log_level() -> Result<u32, Status> {
    let mut level = 0;
    // SAFETY: the pointer is to a live local.
    done(unsafe { proxy_get_log_level(&mut level) }).map(|()| level)
}

pub(crate) fn current_time() -> Result<u64, Status> {
    let mut time = 0;
    // SAFETY: the pointer is to a live local.
    done(unsafe { proxy_get_current_time_nanoseconds(&mut time) }).map(|()| time)
}

pub(crate) fn set_tick_period(millis: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_set_tick_period_milliseconds(millis) })
}

pub(crate) fn continue_stream(kind: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_continue_stream(kind) })
}

pub(crate) fn set_effective_context(context: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_set_effective_context(context) })
}

pub(crate) fn buffer(kind: u32, most: usize) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: the pointers are to live locals.
    let status = unsafe { proxy_get_buffer_bytes(kind, 0, most, &mut out.data, &mut out.size) };
    out.take(status)
}

pub(crate) fn header(map: u32, name: &str) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: the pointers are to a live slice and live locals.
    let status = unsafe {
        let (name, size) = (name.as_ptr(), name.len());
        proxy_get_header_map_value(map, name, size, &mut out.data, &mut out.size)
    };
    out.take(status)
}

/// All headers, as the ABI writes a map.
pub(crate) fn headers(map: u32) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: the pointers are to live locals.
    let status = unsafe { proxy_get_header_map_pairs(map, &mut out.data, &mut out.size) };
    out.take(status)
}

pub(crate) fn replace_header(map: u32, name: &str, value: &str) -> Result<(), Status> {
    // SAFETY: the pointers are to live slices.
    done(unsafe {
        let (key, key_size) = (name.as_ptr(), name.len());
        proxy_replace_header_map_value(map, key, key_size, value.as_ptr(), value.len())
    })
}

pub(crate) fn add_header(map: u32, name: &str, value: &str) -> Result<(), Status> {
    // SAFETY: the pointers are to live slices.
    done(unsafe {
        let (key, key_size) = (name.as_ptr(), name.len());
        proxy_add_header_map_value(map, key, key_size, value.as_ptr(), value.len())
    })
}

pub(crate) fn remove_header(map: u32, name: &str) -> Result<(), Status> {
    // SAFETY: the pointer is to a live slice.
    done(unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

pub(crate) fn property(path: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: the pointers are to a live slice and live locals.
    let status =
        unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut out.data, &mut out.size) };
    out.take(status)
}

pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: the pointers are to live slices.
    done(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
}

pub(crate) fn shared_data(key: &str) -> Result<(Vec<u8>, u32), Status> {
    let mut out = Returned::new();
    let mut cas = 0;
    // SAFETY: the pointers are to a live slice and live locals.
    let status = unsafe {
        let (key, size) = (key.as_ptr(), key.len());
        proxy_get_shared_data(key, size, &mut out.data, &mut out.size, &mut cas)
    };
    out.take(status).map(|value| (value, cas))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: the pointers are to live slices.
    done(unsafe {
        let (key, key_size) = (key.as_ptr(), key.len());
        proxy_set_shared_data(key, key_size, value.as_ptr(), value.len(), cas)
    })
}

/// A function that the host has beside the ABI.
pub(crate) fn foreign(name: &str, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: the pointers are to live slices and live locals.
    let status = unsafe {
        let (args, args_size) = (arguments.as_ptr(), arguments.len());
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            args,
            args_size,
            &mut out.data,
            &mut out.size,
        )
    };
    out.take(status)
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, Status> {
    let mut id = 0;
    // SAFETY: the pointers are to a live slice and a live local.
    done(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) }).map(|()| id)
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_increment_metric(id, by) })
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_record_metric(id, value) })
}

pub(crate) fn grpc_send(stream: u32, message: &[u8], last: bool) -> Result<(), Status> {
    // SAFETY: the pointer is to a live slice.
    done(unsafe { proxy_grpc_send(stream, message.as_ptr(), message.len(), last.into()) })
}

pub(crate) fn grpc_cancel(stream: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    done(unsafe { proxy_grpc_cancel(stream) })
}

pub(crate) fn send_local_response(
    status: u16,
    details: &str,
    body: &[u8],
    headers: &[u8],
    grpc_status: i32,
) -> Result<(), Status> {
    // SAFETY: the pointers are to live slices.
    done(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}
