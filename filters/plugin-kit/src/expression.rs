//! Several attributes by one hostcall.
//!
//! Each attribute is a hostcall of its own, and hostcalls are most of what a request costs. Envoy
//! evaluates expressions of the Common Expression Language over the attributes, among the functions
//! that it has beside the ABI; one expression puts together all that is wanted. A host that has no
//! such functions says so once, when the expression is made, and is asked for one after the other.

use crate::{ffi, headers, property::into_text};

/// An expression that gives a text, or a list. Belongs to the root context in whose callback it was
/// made, and to the streams of that.
/// The default is one that the host does not have.
#[derive(Debug, Default)]
pub struct Expression(Option<Vec<u8>>);

impl Expression {
    /// Hands the expression to the host.
    pub fn new(text: &str) -> Self {
        let number = ffi::foreign("expr_create", text.as_bytes()).ok();
        // The number that the host gives is all that it wants to have again.
        Self(number.filter(|number| number.len() == size_of::<u32>()))
    }

    /// False if the host cannot evaluate it.
    pub const fn is_usable(&self) -> bool {
        self.0.is_some()
    }

    /// Its value, over the attributes of the stream whose callback runs. `None` if one of them is
    /// not there.
    pub fn text(&self) -> Option<String> {
        ffi::foreign("expr_evaluate", self.0.as_ref()?).ok().map(into_text)
    }

    /// Its values, each in the bytes that the attribute itself would have. `None` if one of them is
    /// not there.
    pub fn list(&self) -> Option<Vec<Vec<u8>>> {
        let bytes = ffi::foreign("expr_evaluate", self.0.as_ref()?).ok()?;
        let mut values = Vec::new();
        // A list is a map of which the values are empty.
        headers::each(&bytes, &mut |value, _| values.push(value.to_vec()));
        Some(values)
    }
}
