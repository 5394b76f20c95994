//! The memory cgroups that this process is in, and the least that they allow.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::mib;

/// A limit that maps count against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// What sets it.
    pub name: String,
    /// Whether the agent's own memory counts, too.
    pub counts_agent: bool,
}

impl Limit {
    /// Whether maps of this size fit, beside the agent where that counts, too.
    #[must_use]
    pub const fn allows(&self, maps_bytes: u64) -> bool {
        let own = if self.counts_agent { super::AGENT_BYTES } else { 0 };
        maps_bytes + own <= self.bytes
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bytes, .. } = self;
        if self.counts_agent {
            write!(
                formatter,
                "the agent itself {} at its start, and {name} allows {}",
                mib(super::AGENT_BYTES),
                mib(*bytes)
            )
        } else {
            write!(formatter, "{name} allows {}", mib(*bytes))
        }
    }
}

/// A hierarchy of cgroups that can limit memory: from a process's own one up to the highest that can be seen.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    file: &'static str,
}

/// The lowest limit of all cgroups from this process's up to the root, `None` where there is none.
pub(super) fn of_cgroups() -> Result<Option<Limit>> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let hierarchies = hierarchies(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
    let mut lowest: Option<Limit> = None;
    for hierarchy in &hierarchies {
        for folder in hierarchy.own.ancestors().take_while(|folder| folder.starts_with(&hierarchy.mount)) {
            let path = folder.join(hierarchy.file);
            let bytes = match fs::read_to_string(&path) {
                Ok(text) => limited(&text),
                // The root of a hierarchy has no limit, and outside of a container's view is nothing to be seen.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
            };
            if let Some(bytes) = bytes.filter(|bytes| lowest.as_ref().is_none_or(|lowest| *bytes < lowest.bytes)) {
                lowest = Some(Limit { bytes, name: path.display().to_string(), counts_agent: true });
            }
        }
    }
    Ok(lowest)
}

/// Version 1 writes the largest number of whole pages where there is no limit, version 2 the word `max`.
fn limited(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < i64::MAX as u64 - (1 << 20))
}

/// From `/proc/self/cgroup` and `/proc/self/mountinfo` (cgroups(7), proc(5)). Both versions can be mounted at once.
fn hierarchies(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let (place, kind): (Vec<_>, Vec<_>) = (place.split(' ').collect(), kind.split(' ').collect());
        let (&[_, _, _, root, mount, ..], &[kind, _, options, ..]) = (place.as_slice(), kind.as_slice()) else {
            continue;
        };
        let (file, controllers) = match kind {
            "cgroup2" => ("memory.max", ""),
            "cgroup" if options.split(',').any(|option| option == "memory") => ("memory.limit_in_bytes", "memory"),
            _ => continue,
        };
        // `ID:CONTROLLERS:PATH`, where version 2 names none.
        let path = cgroup.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names.split(',').any(|name| name == controllers).then_some(path)
        });
        let Some(path) = path else { continue };
        // A container may see its own part only: then the path starts where the mount's root is, or outside of it.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        found.push(Hierarchy { mount: mount.into(), own: Path::new(mount).join(below), file });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cgroup: &str, mountinfo: &str, expected: &[(&str, &str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(mount, own, file)| ((*mount).into(), (*own).into(), (*file).to_owned())).collect();
        let found: Vec<(PathBuf, PathBuf, String)> = hierarchies(cgroup, mountinfo)
            .into_iter()
            .map(|hierarchy| (hierarchy.mount, hierarchy.own, hierarchy.file.to_owned()))
            .collect();
        assert_eq!(found, expected, "{cgroup} {mountinfo}");
    }

    #[test]
    fn finds_the_cgroups() {
        let v2 = "28 23 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let part = "35 31 0:32 /pods/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        check(
            "0::/system.slice/lossprobe.service\n",
            v2,
            &[("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/lossprobe.service", "memory.max")],
        );
        check("0::/\n", v2, &[("/sys/fs/cgroup", "/sys/fs/cgroup", "memory.max")]);
        check(
            "4:memory:/pods/a\n1:cpu:/elsewhere\n0::/\n",
            v1,
            &[("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/pods/a", "memory.limit_in_bytes")],
        );
        let whole = [("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        check("4:memory:/pods/a\n", part, &whole);
        check("4:memory:/../b\n", part, &whole);
        check("4:cpu,memory:/pods/a\n", part, &whole);
        check("0::/\n", v1, &[]);
        check("", "", &[]);
    }

    #[test]
    fn knows_what_no_limit_looks_like() {
        assert_eq!(limited("max\n"), None);
        assert_eq!(limited("9223372036854771712\n"), None);
        assert_eq!(limited("67108864\n"), Some(64 << 20));
        assert_eq!(limited("0\n"), Some(0));
    }
}
