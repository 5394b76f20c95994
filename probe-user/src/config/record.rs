//! What is kept of incidents: how long the recorder remembers, how many bundles stay.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    Fault, UsageError,
    file::{File, Source},
};
use crate::{
    cli::RecordArgs,
    record::{bundle::Keep, history::DEFAULT_LENGTH},
};

/// Minutes that can be remembered.
const HISTORY_MINUTES: RangeInclusive<u32> = 1..=240;
/// Incidents whose folders can be kept.
const KEPT: RangeInclusive<u32> = 1..=10_000;
/// MiB that they can take.
const KEPT_MIB: RangeInclusive<u32> = 1..=1 << 20;

/// What is kept of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordConfig {
    /// How far the recorder goes back.
    pub history: Duration,
    /// How many bundles stay.
    pub keep: Keep,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self { history: DEFAULT_LENGTH, keep: Keep::default() }
    }
}

impl RecordConfig {
    /// What the file says, the rest as if it said nothing.
    pub(super) fn of_file(source: &Source<'_>, file: &File) -> Result<Self, UsageError> {
        let number = |value: &Option<_>, range| source.value(value.as_ref(), |number| within(*number, range));
        Ok(Self::default().with_flags(RecordArgs {
            history: number(&file.history, HISTORY_MINUTES)?,
            keep_incidents: number(&file.keep_incidents, KEPT)?,
            keep_mib: number(&file.keep_mib, KEPT_MIB)?,
        }))
    }

    /// With what was asked for in place of what it had.
    pub(super) fn with_flags(self, args: RecordArgs) -> Self {
        Self {
            history: args.history.map_or(self.history, |minutes| Duration::from_secs(60 * u64::from(minutes))),
            keep: Keep {
                count: args.keep_incidents.map_or(self.keep.count, |count| count as usize),
                bytes: args.keep_mib.map_or(self.keep.bytes, |mebibytes| u64::from(mebibytes) << 20),
            },
        }
    }
}

fn within(number: i64, range: RangeInclusive<u32>) -> Result<u32, Fault> {
    u32::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = range.into_inner();
        Fault::new(format!("{number} is outside of {least} to {most}"), "`lossprobe agent --help` says what it means")
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn flags_win_over_the_file() {
        let read = |text: &str| Config::from_toml(Path::new("x.toml"), text).map(|config| config.record);
        assert_eq!(read("").unwrap(), RecordConfig::default());
        let file = read("history = 5\nkeep_incidents = 2\nkeep_mib = 3").unwrap();
        let keep = Keep { count: 2, bytes: 3 << 20 };
        assert_eq!(file, RecordConfig { history: Duration::from_secs(300), keep });
        let flags = file.with_flags(RecordArgs { keep_mib: Some(9), ..RecordArgs::default() });
        assert_eq!(flags.keep, Keep { count: 2, bytes: 9 << 20 });
        for text in ["history = 0", "history = 241", "keep_incidents = -1", "keep_mib = 1048577"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("x.toml:1:") && error.contains("is outside of"), "{error}");
        }
    }
}
