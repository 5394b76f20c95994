//! Any text through the configuration: what comes out is within its bounds, what is refused is refused in one line that
//! names a place.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use probe_user::config::{Config, MAX_INTERFACES};

/// A path of a unix socket, without its NUL.
const SOCKET_BYTES: usize = 107;

fuzz_target!(|text: &str| {
    match Config::from_toml(Path::new("a.toml"), text) {
        Ok(config) => {
            assert!(config.max_interfaces.is_none_or(|number| (1..=MAX_INTERFACES).contains(&number)), "{config:?}");
            assert!(config.socket.is_none_or(|path| (1..=SOCKET_BYTES).contains(&path.as_os_str().len())));
            for name in ["eth0", "lo", "", "äöü"] {
                let _selected = config.selection.selects(name, name == "lo");
            }
        }
        Err(error) => {
            let error = error.to_string();
            let place = error.strip_prefix("a.toml:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            // Too many globs are a fault of the whole list.
            let whole_list = error.starts_with("--interface: ") || error.starts_with("--exclude: ");
            let lines = text.lines().count().max(1) + 1;
            assert!(whole_list || place.is_some_and(|line| (1..=lines).contains(&line)), "{error:?}");
        }
    }
});
