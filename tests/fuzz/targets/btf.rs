//! Any bytes through the reader of type information, and every question that the agent asks it.
//!
//! Held: nothing panics, every answer comes in time (libFuzzer's limit) and no answer is larger than what was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_user::kernel::btf::Btf;

fuzz_target!(|input: &[u8]| {
    let Ok(btf) = Btf::parse(input.to_vec()) else { return };
    for path in ["m", "a.b", "missing"] {
        let _offset = btf.offset("s", path);
    }
    let names = btf.enumeration("e");
    // An entry has eight bytes at least.
    assert!(names.len() <= input.len() / 8, "{} names out of {} bytes", names.len(), input.len());
    let arguments = btf.tracepoint_arguments("t");
    assert!(arguments.is_none_or(|count| count <= input.len() / 8), "{arguments:?} of {} bytes", input.len());
});
