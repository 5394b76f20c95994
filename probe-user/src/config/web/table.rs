//! A map of the file: its keys are asked for one by one, and at the end none may be left.

use std::collections::BTreeSet;

use super::yaml::{Entry, Node, Value};
use crate::config::{Fault, UsageError, did_you_mean};

/// Keys that other servers have, and why not here: cause and next step.
const NOT_HERE: [(&str, &str, &str); 5] = [
    ("cert", "certificates are not read from this file", "write it to a file of its own, named by cert_file"),
    ("key", "keys are not read from this file", "write it to a file of its own, named by key_file"),
    ("client_ca", "certificates are not read from this file", "write it to a file of its own, named by client_ca_file"),
    (
        "client_allowed_sans",
        "clients' names are not looked at",
        "name an authority by client_ca_file that vouches for nobody else",
    ),
    ("rate_limit", "requests are not counted", "remove it: connections, passwords and time are bounded anyway"),
];

pub(super) struct Table {
    /// Where it begins, which is its key if it has one.
    pub(super) place: String,
    entries: Vec<Entry>,
    asked: BTreeSet<&'static str>,
}

impl Table {
    pub(super) fn new(node: Node) -> Result<Self, UsageError> {
        let entries = match node.value {
            Value::Nothing => Vec::new(),
            Value::Map(entries) => entries,
            Value::Scalar { .. } | Value::List(_) => {
                return Err(Fault::new("this is no map", "write `key: value` lines, indented by spaces").at(node.place));
            }
        };
        Ok(Self { place: node.place, entries, asked: BTreeSet::new() })
    }

    /// Everything, for a map whose keys are not known before.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry> {
        self.asked.insert(key);
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.entry(key).map(|entry| entry.value)
    }

    /// A map in the map; an empty one where nothing follows the key.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Self>, UsageError> {
        let Some(Entry { place, value, .. }) = self.entry(key) else { return Ok(None) };
        Ok(Some(Self { place, ..Self::new(value)? }))
    }

    pub(super) fn parsed<V>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<V, Fault>,
    ) -> Result<Option<V>, UsageError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        let place = node.place.clone();
        text(node)?.map(|text| parse(&text).map_err(|fault| fault.at(place))).transpose()
    }

    pub(super) fn list<V>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<V, Fault>,
    ) -> Result<Option<Vec<V>>, UsageError> {
        let Some(Node { place, value }) = self.take(key) else { return Ok(None) };
        let items = match value {
            Value::List(items) if !items.is_empty() => items,
            Value::List(_) | Value::Nothing => return Ok(None),
            Value::Scalar { .. } | Value::Map(_) => {
                return Err(Fault::new("this is no list", "write it as in [FIRST, SECOND]").at(place));
            }
        };
        let parse = |item: Node| {
            let place = item.place.clone();
            parse(&text(item)?.unwrap_or_default()).map_err(|fault| fault.at(place))
        };
        items.into_iter().map(parse).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn truth(&mut self, key: &'static str) -> Result<Option<bool>, UsageError> {
        match self.take(key) {
            None | Some(Node { value: Value::Nothing, .. }) => Ok(None),
            Some(Node { value: Value::Scalar { text, is_plain: true }, .. }) if text == "true" => Ok(Some(true)),
            Some(Node { value: Value::Scalar { text, is_plain: true }, .. }) if text == "false" => Ok(Some(false)),
            Some(node) => Err(Fault::new("this is no truth value", "write true or false").at(node.place)),
        }
    }

    /// That there is no key that nobody has asked for.
    pub(super) fn end(self) -> Result<(), UsageError> {
        let Some(Entry { key, place, .. }) = self.entries.into_iter().next() else { return Ok(()) };
        let fault = NOT_HERE.iter().find(|(name, ..)| *name == key).map_or_else(
            || {
                let known: Vec<_> = self.asked.iter().copied().collect();
                let near = did_you_mean(&key, &self.asked);
                Fault::new("unknown key", format!("{near}known here: {}", known.join(", ")))
            },
            |(_, cause, next_step)| Fault::new(*cause, *next_step),
        );
        Err(fault.at(place))
    }
}

/// The text of a value, `None` where there is none.
pub(super) fn text(node: Node) -> Result<Option<String>, UsageError> {
    match node.value {
        Value::Nothing => Ok(None),
        Value::Scalar { text, .. } => Ok(Some(text)),
        Value::List(_) | Value::Map(_) => {
            Err(Fault::new("this is not one value", "write it on the line of its key").at(node.place))
        }
    }
}
