//! The proxy over real sockets, in this process, on ports the kernel chooses.
//!
//! One binary, so one link step. No test sleeps: each waits for what it wants to see.

mod admin;
mod bootstrap;
mod drain;
mod failure;
mod forward;
mod origin;
mod running;
mod tcp;
mod tls;
mod wasm;
