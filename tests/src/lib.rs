//! Scenarios and end-to-end tests, real Envoy among them.
