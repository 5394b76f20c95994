//! Any text as a request's `Accept`.
//!
//! Held: nothing panics, letters' case is the same (RFC 9110 8.3.1), and OpenMetrics is what somebody has asked for by name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_user::export::Format;

fuzz_target!(|text: &str| {
    let (format, lower) = (Format::from_accept(text), text.to_ascii_lowercase());
    assert_eq!(format, Format::from_accept(&lower), "{text:?}");
    assert!(format == Format::Text || lower.contains("application/openmetrics-text"), "{text:?}");
});
