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
    /// Of the answer on our own gRPC stream.
    GrpcInitialMetadata = 4,
    /// Of the answer to our own HTTP call.
    CallResponse = 6,
}

/// The first value of a header. Bytes that are no UTF-8 are replaced.
#[inline(never)]
pub fn get(map: Map, name: &str) -> Option<String> {
    ffi::header(map as u32, name).ok().map(into_text)
}

/// All values of a header, joined by commas as RFC 9110 (5.3) has it. One hostcall for a header that
/// is not there, two for one that is: the host's getter knows the first value only.
pub fn joined(map: Map, name: &str) -> Option<String> {
    joined_by(", ", map, name)
}

/// The same with another separator. That of expressions is a comma alone.
pub fn joined_by(separator: &str, map: Map, name: &str) -> Option<String> {
    let first = get(map, name)?;
    let all = ffi::headers(map as u32).map(|bytes| values(&bytes, name, separator));
    let all = all.unwrap_or_default();
    Some(if all.is_empty() { first } else { into_text(all) })
}

/// The first value of each of these headers, by one hostcall for all of them.
pub fn several<const N: usize>(map: Map, names: [&str; N]) -> [Option<String>; N] {
    let bytes = ffi::headers(map as u32).unwrap_or_default();
    let mut found = [const { None }; N];
    each(&bytes, &mut |key, value| {
        for (place, name) in found.iter_mut().zip(names) {
            if place.is_none() && key == name.as_bytes() {
                *place = Some(into_text(value.to_vec()));
            }
        }
    });
    found
}

/// The values of one name in a map as the ABI writes it.
fn values(bytes: &[u8], name: &str, separator: &str) -> Vec<u8> {
    let mut joined = Vec::new();
    each(bytes, &mut |key, value| {
        if key == name.as_bytes() {
            if !joined.is_empty() {
                joined.extend_from_slice(separator.as_bytes());
            }
            joined.extend_from_slice(value);
        }
    });
    joined
}

/// Shows all of a map as the ABI writes it: count, sizes, then names and values, each ended by NUL.
/// What does not fit the sizes ends the map.
pub(crate) fn each(bytes: &[u8], show: &mut dyn FnMut(&[u8], &[u8])) {
    let word = |at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()
    };
    let count = word(0).unwrap_or(0);
    let (mut sizes, mut text) = (4, count.saturating_mul(8).saturating_add(4));
    for _ in 0..count {
        let (Some(key), Some(value)) = (word(sizes), word(sizes.saturating_add(4))) else { break };
        sizes = sizes.saturating_add(8);
        let mut next = |size: usize| {
            let end = text.saturating_add(size);
            let found = bytes.get(text..end);
            text = end.saturating_add(1);
            found
        };
        let (Some(key), Some(value)) = (next(key), next(value)) else { break };
        show(key, value);
    }
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
