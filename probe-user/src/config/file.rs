//! The TOML file, as it is spelled: every value with its place for the error message.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    Fault, UsageError,
    incidents::{IncidentTable, ObjectiveTable},
};
use crate::classes::{Class, Classes};

/// The file as it is spelled. Each value keeps its place for the error message.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) interface: Vec<Spanned<String>>,
    pub(super) exclude: Vec<Spanned<String>>,
    pub(super) uplink: Vec<Spanned<String>>,
    pub(super) track: Vec<Spanned<String>>,
    pub(super) tunnel_port: Vec<Spanned<String>>,
    pub(super) ports: Option<Spanned<String>>,
    pub(super) xdp: Vec<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) socket: Option<Spanned<String>>,
    pub(super) socket_group: Option<Spanned<String>>,
    pub(super) web_config: Option<PathBuf>,
    pub(super) log_format: Option<Spanned<String>>,
    pub(super) log_level: Option<Spanned<String>>,
    pub(super) max_interfaces: Option<Spanned<i64>>,
    pub(super) flows: Option<Spanned<i64>>,
    pub(super) flow_sample: Option<Spanned<i64>>,
    pub(super) evidence_payload: Option<Spanned<i64>>,
    pub(super) redact: Option<bool>,
    pub(super) state_dir: Option<Spanned<String>>,
    pub(super) objective: ObjectiveTable,
    pub(super) incident: IncidentTable,
    pub(super) history: Option<Spanned<i64>>,
    pub(super) keep_incidents: Option<Spanned<i64>>,
    pub(super) keep_mib: Option<Spanned<i64>>,
    pub(super) push_url: Option<Spanned<String>>,
    pub(super) push_format: Option<Spanned<String>>,
    pub(super) push_ca_file: Option<PathBuf>,
    pub(super) push_header_file: Option<PathBuf>,
    pub(super) drop_classes: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// The text of the file and where it came from.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn parse(&self) -> Result<File, UsageError> {
        toml::from_str(self.text).map_err(|error| {
            let next_step = if error.message().starts_with("unknown field") {
                "correct the key or remove it (`lossprobe agent --help` lists them)"
            } else {
                "`lossprobe agent --help` shows an example"
            };
            let cause = error.message().trim_end().replace('\n', ", ");
            Fault::new(cause, next_step).at(self.place(error.span().unwrap_or(0..0)))
        })
    }

    pub(super) fn value<T, V>(
        &self,
        value: Option<&Spanned<T>>,
        parse: impl FnOnce(&T) -> Result<V, Fault>,
    ) -> Result<Option<V>, UsageError> {
        value.map(|value| parse(value.get_ref()).map_err(|fault| fault.at(self.place(value.span())))).transpose()
    }

    pub(super) fn list<V>(
        &self,
        values: &[Spanned<String>],
        parse: impl Fn(&str) -> Result<V, Fault>,
    ) -> Result<Vec<V>, UsageError> {
        values.iter().map(|value| parse(value.get_ref()).map_err(|fault| fault.at(self.place(value.span())))).collect()
    }

    pub(super) fn classes(&self, spelled: &BTreeMap<Spanned<String>, Spanned<String>>) -> Result<Classes, UsageError> {
        let mut overrides = BTreeMap::new();
        for (reason, class) in spelled {
            let name = reason.get_ref();
            let in_shape = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(in_shape) || name.starts_with("skb_drop_reason_") {
                let fault = Fault::new(
                    format!("`{name}` is no drop reason"),
                    "write it in lower case without the kernel's prefix, as in netfilter_drop",
                );
                return Err(fault.at(self.place(reason.span())));
            }
            let class = Class::from_id(class.get_ref()).ok_or_else(|| {
                let fault = Fault::new(
                    format!("unknown class `{}`", class.get_ref()),
                    format!("write one of {}", Class::ALL.map(Class::id).join(", ")),
                );
                fault.at(self.place(class.span()))
            })?;
            overrides.insert(name.clone(), class);
        }
        Ok(Classes::new(overrides))
    }

    /// `FILE:LINE:COLUMN: key KEY` of a byte range; lines and columns count characters from 1. The key is the one
    /// whose `=` stands before the range, or the range itself where that is a key.
    fn place(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[line_start..].chars().count() + 1;
        let rest = self.text.get(line_start..).unwrap_or_default();
        let own_line = rest.lines().next().unwrap_or_default();
        let assignment = std::iter::once(own_line).chain(before.lines().rev()).find_map(|line| line.split_once('='));
        let key = assignment.map(|(key, _)| key.trim()).filter(|key| !key.is_empty() && !key.contains(['#', '"']));
        let key = key.map_or_else(String::new, |key| format!(": key {key}"));
        format!("{}:{line}:{column}{key}", self.path.display())
    }
}
