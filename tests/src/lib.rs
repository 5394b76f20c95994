//! What the integration tests and the demo stand on: network namespaces that vanish with their owner, links by
//! netlink, frames byte by byte, traffic with both ends in sight, the agent as a child process and its metrics.
//!
//! Everything is made by system calls, because the same static binary is PID 1 in the QEMU guests; the only programs
//! ever called are `nft`, `tc` and `ethtool` (on the host also `promtool`, `prometheus`, `prometheus-alertmanager` and `bpftrace`). Deliberately absent: fixed sleeps ([`wait`]), names below `/run/netns` ([`namespace`]), anything that
//! outlives the process ([`child`]).

pub mod agent;
pub mod bpftrace;
pub mod cable;
pub mod capture;
pub mod cards;
pub mod chain;
pub mod child;
pub mod cpu;
pub mod frames;
pub mod guest;
pub mod http;
pub mod link;
pub mod metrics;
pub mod namespace;
pub mod program;
pub mod pump;
pub mod raw;
pub mod region;
pub mod relay;
pub mod replay;
pub mod route;
pub mod run;
pub mod shape;
pub mod simulation;
pub mod statistics;
pub mod temporary;
pub mod tls;
pub mod topology;
pub mod traffic;
pub mod wait;
pub mod webhook;
pub mod wire;
