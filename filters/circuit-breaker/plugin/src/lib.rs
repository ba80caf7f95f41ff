//! The circuit-breaker plugin: translates callbacks for its core.
