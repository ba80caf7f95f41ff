//! The state of one breaker.
