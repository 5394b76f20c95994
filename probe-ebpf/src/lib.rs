//! What lossprobe knows about frames, and what crosses the line between the kernel and user space.
//!
//! This library is safe `no_std` code without any eBPF in it: the very same functions run in the kernel (behind
//! `src/bin/probe`, which adds packet and map access), in the agent, in `analyze` and in the tests on the host.
//! Deliberately absent: anything that decides a frame's fate, allocates, or knows an eBPF helper.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod budget;
pub mod checksum;
pub mod classify;
pub mod fast;
pub mod flow;
pub mod frame;
#[cfg(not(target_arch = "bpf"))]
mod pod;
pub mod reason;
pub mod source;
pub mod storm;
#[cfg(not(target_arch = "bpf"))]
pub mod thorough;
pub mod wire;
