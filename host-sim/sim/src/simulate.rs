//! Load-balancing experiments: many clients, proxies and endpoints on a virtual clock.
//!
//! An [`Experiment`] says what there is and what happens; [`simulate`] runs every arm with every
//! seed and compares them. An arm is a native policy, written from its formula, or the plugins of an
//! Envoy bootstrap, which run in the same engine as everywhere else in host-sim.
//!
//! Arms are paired: a seed fixes when requests come, by which proxy, how much work each is and whom
//! antagonists hit, and none of it depends on the arm. So the ratio of two arms is taken seed by
//! seed, and what a lucky seed gave to both falls out of it. Same file, same result, to the byte.
//!
//! What a simulation leaves out it flatters: proxies cost no time here, connections none, and an
//! endpoint works at exactly the speed that is written. It tells which policy is better and by how
//! much, not how many milliseconds a deployment will take.
//!
//! To add a policy, a failure or a measure, add a file beside its like below `policy/`, `failure/` or
//! `measure/`, and name it in the list above them.

mod arrivals;
mod draws;
mod estimate;
mod events;
mod failure;
mod gate;
mod html;
mod kernel;
mod load_report;
mod markdown;
mod measure;
mod meter;
mod native;
mod notices;
mod outlier;
mod plugins;
mod policy;
mod proxy;
mod reaper;
mod record;
mod results;
mod runner;
mod server;
mod service_time;
mod spec;
mod text;
mod verdict;
mod words;
mod world;

pub use estimate::Estimate;
pub use markdown::markdown;
pub use notices::{Notice, Severity};
pub use results::{ArmKind, ArmResult, ByWindow, MeasureInfo, Results, Run, WindowInfo};
pub use runner::{Progress, SimulateError, SimulateOptions, simulate};
pub use spec::{Experiment, experiment_schema};
pub use verdict::Verdict;

#[cfg(test)]
mod tests;
