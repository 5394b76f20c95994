//! Which types user space may copy out of maps byte for byte.
#![allow(unsafe_code)]

use aya::Pod;

use crate::{
    abi::{
        Checksums, Control, DropKey, FaultKey, FlowName, MalformedCount, MalformedKey, NamespaceKey, Offsets,
        RetransmitKey, Settings, Slot, Traffic,
    },
    flow::{Half, Ledger},
    source::Source,
    storm::Storm,
};

// SAFETY: `repr(C)` integers and byte arrays only, padding named: every bit pattern is a value, every byte is set.
unsafe impl Pod for Slot {}
// SAFETY: as above.
unsafe impl Pod for Traffic {}
// SAFETY: as above.
unsafe impl Pod for MalformedKey {}
// SAFETY: as above.
unsafe impl Pod for MalformedCount {}
// SAFETY: as above.
unsafe impl Pod for Source {}
// SAFETY: as above.
unsafe impl Pod for Checksums {}
// SAFETY: as above.
unsafe impl Pod for DropKey {}
// SAFETY: as above.
unsafe impl Pod for RetransmitKey {}
// SAFETY: as above.
unsafe impl Pod for FaultKey {}
// SAFETY: as above.
unsafe impl Pod for Offsets {}
// SAFETY: as above.
unsafe impl Pod for Settings {}
// SAFETY: as above.
unsafe impl Pod for Storm {}
// SAFETY: as above.
unsafe impl Pod for NamespaceKey {}
// SAFETY: as above.
unsafe impl Pod for Control {}
// SAFETY: as above.
unsafe impl Pod for FlowName {}
// SAFETY: as above.
unsafe impl Pod for Half {}
// SAFETY: as above.
unsafe impl Pod for Ledger {}
