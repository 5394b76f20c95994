//! What an incident is to the operator, and where incidents are kept.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Fault, UsageError,
    file::{File, Source},
};
use crate::{cli::duration, detect::incident::Thresholds};

/// What was promised unless told otherwise, in percent of 30 days.
pub const DEFAULT_OBJECTIVE_PERCENT: f64 = 99.9;

/// What an incident is, and where incidents are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentConfig {
    /// Folder that a restart finds again; `None`: they are kept in memory only.
    pub state_dir: Option<PathBuf>,
    /// The share of time, in percent, in which no more than is acceptable may be lost: above 0, at most 100.
    pub objective_percent: f64,
    /// What is acceptable, and how patient to be.
    pub thresholds: Thresholds,
}

impl Default for IncidentConfig {
    fn default() -> Self {
        let objective_percent = DEFAULT_OBJECTIVE_PERCENT;
        Self { state_dir: None, objective_percent, thresholds: Thresholds::default() }
    }
}

/// `[objective]` as it is spelled.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ObjectiveTable {
    percent: Option<Spanned<f64>>,
    acceptable_loss_percent: Option<Spanned<f64>>,
}

/// `[incident]` as it is spelled.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IncidentTable {
    eases_after: Option<Spanned<String>>,
    closes_after: Option<Spanned<String>>,
}

impl IncidentConfig {
    /// The file with a flag over it. `environment`: what systemd says in `STATE_DIRECTORY`, for which both stand.
    pub(super) fn new(
        flag: Option<&Path>,
        source: &Source<'_>,
        file: &File,
        environment: Option<&OsStr>,
    ) -> Result<Self, UsageError> {
        let in_file = source.value(file.state_dir.as_ref(), |text| folder(Path::new(text)))?;
        let by_flag = flag.map(folder).transpose().map_err(|fault| fault.at("--state-dir"))?;
        let objective = &file.objective;
        let acceptable = source.value(objective.acceptable_loss_percent.as_ref(), |percent| acceptable(*percent))?;
        let eases_after = source.value(file.incident.eases_after.as_ref(), |text| milliseconds(text))?;
        let default = Thresholds::default();
        let eases_after_ms = eases_after.unwrap_or(default.eases_after_ms);
        let closes_after = source.value(file.incident.closes_after.as_ref(), |text| {
            let closes_after_ms = milliseconds(text)?;
            if closes_after_ms < eases_after_ms {
                let cause = format!("an incident would be over after `{text}`, before it can be said to ease");
                return Err(Fault::new(cause, "write no less than eases_after [default: 1m]"));
            }
            Ok(closes_after_ms)
        })?;
        Ok(Self {
            state_dir: by_flag.or(in_file).unwrap_or_else(|| environment.and_then(first)),
            objective_percent: source
                .value(objective.percent.as_ref(), |percent| objective_percent(*percent))?
                .unwrap_or(DEFAULT_OBJECTIVE_PERCENT),
            thresholds: Thresholds {
                acceptable_ratio: acceptable.unwrap_or(default.acceptable_ratio),
                eases_after_ms,
                // Who has more patience with what eases has it with what is over.
                closes_after_ms: closes_after.unwrap_or(default.closes_after_ms.max(eases_after_ms)),
            },
        })
    }
}

/// `None` for `none`. Where it is must not depend on where the agent is started.
fn folder(path: &Path) -> Result<Option<PathBuf>, Fault> {
    match path {
        _ if path == Path::new("none") => Ok(None),
        _ if path.is_absolute() => Ok(Some(path.to_owned())),
        _ => Err(Fault::new(
            format!("`{}` is no absolute path", path.display()),
            "name a folder as in /var/lib/lossprobe, or `none`",
        )),
    }
}

/// systemd names several folders with colons between them; the first is meant.
fn first(environment: &OsStr) -> Option<PathBuf> {
    let first = environment.as_bytes().split(|byte| *byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
}

fn objective_percent(percent: f64) -> Result<f64, Fault> {
    (percent > 0.0 && percent <= 100.0).then_some(percent).ok_or_else(|| {
        Fault::new(format!("{percent} is not above 0 and at most 100"), "write percent of time, as in 99.9")
    })
}

/// In percent to a share.
fn acceptable(percent: f64) -> Result<f64, Fault> {
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0).ok_or_else(|| {
        Fault::new(format!("{percent} is not between 0 and 100"), "write percent of what is sent, as in 0.5")
    })
}

fn milliseconds(text: &str) -> Result<u64, Fault> {
    let duration =
        duration(text).map_err(|cause| Fault::new(format!("`{text}`: {cause}"), "write it as in 30s or 10m"))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
