//! Settings of a [`Namespace`] that are taken back when their value goes, so that many small trials can share one
//! arrangement and one agent: packet filters, queueing disciplines, sysctls.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{namespace::Namespace, program::run};

/// A table of nftables, until dropped.
#[must_use]
pub struct Filter<'n> {
    namespace: &'n Namespace,
    table: &'n str,
}

impl Namespace {
    /// Makes `table` (a family and a name, such as `"ip t"`) with these chains and counters in it.
    ///
    /// # Errors
    /// With nft's messages.
    pub fn filter<'n>(&'n self, table: &'n str, content: &str) -> Result<Filter<'n>> {
        self.nft(&format!("table {table} {{\n{content}\n}}"))?;
        Ok(Filter { namespace: self, table })
    }
}

impl Filter<'_> {
    /// Packets of a named counter.
    ///
    /// # Errors
    /// When there is no such counter.
    pub fn packets(&self, counter: &str) -> Result<u64> {
        Ok(self.namespace.nft_counter(self.table, counter)?.0)
    }
}

impl Drop for Filter<'_> {
    fn drop(&mut self) {
        // A namespace that has gone has no filters.
        let _gone = self.namespace.nft(&format!("delete table {}", self.table));
    }
}

/// The root queueing discipline of a device, until dropped.
#[must_use]
pub struct Queue<'n> {
    namespace: &'n Namespace,
    interface: &'n str,
}

impl Namespace {
    /// Makes `root` (in tc's words, such as `"tbf rate 8bit burst 200 limit 1000"`) the root discipline of `interface`,
    /// and then runs these commands of tc, in which `DEV` stands for `dev` and the interface.
    ///
    /// # Errors
    /// With tc's messages.
    pub fn queue<'n>(&'n self, interface: &'n str, root: &str, commands: &[&str]) -> Result<Queue<'n>> {
        self.tc(&format!("qdisc add dev {interface} root {root}"))?;
        let queue = Queue { namespace: self, interface };
        for command in commands {
            self.tc(&command.replace("DEV", &format!("dev {interface}")))?;
        }
        Ok(queue)
    }

    /// Runs `tc` with these words and returns what it says.
    ///
    /// # Errors
    /// With tc's messages.
    pub fn tc(&self, words: &str) -> Result<String> {
        run(self, "tc", &words.split_whitespace().collect::<Vec<_>>(), "")
    }
}

impl Queue<'_> {
    /// Packets that the discipline of this kind has dropped.
    ///
    /// # Errors
    /// When there is none of this kind.
    pub fn drops(&self, kind: &str) -> Result<u64> {
        self.number(kind, "drops")
    }

    /// Packets that wait in the discipline of this kind.
    ///
    /// # Errors
    /// When there is none of this kind.
    pub fn waiting(&self, kind: &str) -> Result<u64> {
        self.number(kind, "qlen")
    }

    fn number(&self, kind: &str, field: &str) -> Result<u64> {
        let text = self.namespace.tc(&format!("-s -j qdisc show dev {}", self.interface))?;
        let disciplines: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("read {text:?}"))?;
        let found = disciplines.iter().find(|discipline| discipline["kind"] == kind);
        found.and_then(|found| found[field].as_u64()).with_context(|| format!("no {field} of {kind} in {text}"))
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        let _gone = self.namespace.tc(&format!("qdisc del dev {} root", self.interface));
    }
}

/// A changed sysctl, until dropped.
#[must_use]
pub struct Sysctl<'n> {
    namespace: &'n Namespace,
    name: &'n str,
    before: String,
}

impl Namespace {
    /// Sets a sysctl, as [`Namespace::sysctl`].
    ///
    /// # Errors
    /// When there is no such sysctl or it refuses the value.
    pub fn sysctl_for_now<'n>(&'n self, name: &'n str, value: &str) -> Result<Sysctl<'n>> {
        let before = self.sysctl_value(name)?;
        self.sysctl(name, value)?;
        Ok(Sysctl { namespace: self, name, before })
    }

    /// The value of a sysctl of the namespace.
    ///
    /// # Errors
    /// When there is no such sysctl.
    pub fn sysctl_value(&self, name: &str) -> Result<String> {
        let path = crate::namespace::sysctl_path(name);
        let text = self.run(|| fs::read_to_string(&path).with_context(|| format!("read {name}")))?;
        Ok(text.trim().to_owned())
    }
}

impl Drop for Sysctl<'_> {
    fn drop(&mut self) {
        let _gone = self.namespace.sysctl(self.name, &self.before);
    }
}
