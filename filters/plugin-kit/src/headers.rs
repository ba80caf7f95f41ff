//! Headers and trailers. A map that is not available in this phase reads as empty; a write to it
//! answers false.

use crate::{ffi, property::into_text};

/// Which headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// Of the request.
    Request = 0,
    /// Of the request, after its body.
    RequestTrailers = 1,
    /// Of the response.
    Response = 2,
    /// Of the response, after its body.
    ResponseTrailers = 3,
    /// Of the answer to our own HTTP call.
    CallResponse = 6,
}

/// The first value of a header. Bytes that are no UTF-8 are replaced.
#[inline(never)]
pub fn get(map: Map, name: &str) -> Option<String> {
    ffi::header(map as u32, name).ok().map(into_text)
}

/// Replaces all values of a header by one.
pub fn set(map: Map, name: &str, value: &str) -> bool {
    ffi::replace_header(map as u32, name, value).is_ok()
}

/// Adds a value to a header.
pub fn add(map: Map, name: &str, value: &str) -> bool {
    ffi::add_header(map as u32, name, value).is_ok()
}

/// Removes a header with all of its values.
pub fn remove(map: Map, name: &str) -> bool {
    ffi::remove_header(map as u32, name).is_ok()
}
