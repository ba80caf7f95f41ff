//! The engine from outside: hand-written modules in configured chains, inputs in, outputs out.

mod abi_versions;
mod attributes;
mod calls;
mod chain;
mod failure;
mod foreign;
mod grpc;
mod hostile;
mod lifecycle;
mod limits;
mod observer;
mod quirks;
mod reply;
mod rig;
mod routing;
mod shared;
mod statuses;
mod tcp;
mod update;
mod upstream_filters;
