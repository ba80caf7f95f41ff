//! The only crate that names a hostcall: what a plugin needs of its host, without panics.
