//! Any text as a web configuration file (`--web-config`).
//!
//! Held: nothing panics, what is refused is refused with a place in the file, no fault tells what may be a password, and a
//! user's hash has the shape of one.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use probe_user::config::WebConfig;

fuzz_target!(|text: &str| {
    match WebConfig::parse(Path::new("/etc/web.yml"), text) {
        Ok(config) => {
            for (user, hash) in &config.users {
                assert!(hash.as_str().len() == 60 && hash.as_str().is_ascii(), "{hash:?}");
                assert!(!user.contains(':') && !format!("{hash:?}").contains("$2"), "{user:?}");
            }
            if let Some(tls) = &config.tls {
                assert!(
                    tls.cert_file.is_absolute() && tls.key_file.is_absolute() && !tls.versions.is_empty(),
                    "{tls:?}"
                );
            }
        }
        Err(error) => {
            let error = error.to_string();
            let place =
                error.strip_prefix("/etc/web.yml:").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
            let lines = text.split(['\n', '\r']).count() + 1;
            let is_early_end = error.starts_with("/etc/web.yml: the file ends too early");
            assert!(is_early_end || place.is_some_and(|line| (1..=lines).contains(&line)), "{error:?}");
        }
    }
});
