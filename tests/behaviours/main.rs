//! The context layer as a black box: what PC/SC's own text, other stacks and their tests say of
//! each call, as numbered cases, on the simulated reader; those about running commands on usbd-ccid
//! as well. Where a case is about pointers, buffers' lengths or client processes, a comment says
//! what stands for them here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod device;
mod fixture;

mod cancel_commands;
mod cancel_waits;
mod connect;
mod context;
mod coverage;
mod extras;
mod limits;
mod listing;
mod matrix;
mod peers;
mod status_change;
mod transactions;
mod transmit;
