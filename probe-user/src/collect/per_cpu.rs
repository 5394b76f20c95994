//! Files below `/proc/net/stat`: a line of names, then a line of values in hexadecimal for each CPU.

use std::{collections::BTreeMap, fs, io};

/// Sums over the CPUs by name; `None` where the kernel has no such file, or not in this network namespace.
///
/// # Errors
/// procfs refuses.
pub(super) fn read(name: &str) -> io::Result<Option<BTreeMap<String, u64>>> {
    let path = format!("/proc/thread-self/net/stat/{name}");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(sums(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("read {path}: {error}"))),
    }
}

/// Values are 32 bits or more: what one CPU has counted may be below what another has.
pub(super) fn sums(text: &str) -> BTreeMap<String, u64> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut sums = BTreeMap::new();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            if let Ok(value) = u64::from_str_radix(value, 16) {
                *sums.entry((*name).to_owned()).or_default() += value;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_all_cpus() {
        for (text, expected) in [
            ("entries  allocs\n00000002 0000002e\n00000002 00000010\n", Some(0x3e)),
            ("entries allocs\n00000002\n", None),
            ("entries allocs\n", None),
            ("entries allocs\n1 many\n1 f\n", Some(15)),
            ("", None),
        ] {
            assert_eq!(sums(text).get("allocs").copied(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_running_kernel() {
        assert!(read("a file that does not exist").unwrap().is_none());
    }
}
