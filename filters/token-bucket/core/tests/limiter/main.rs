//! The limiter as a plugin uses it: many workers, many clients, one store.

mod client;
mod economy;
mod fairness;
mod workers;
