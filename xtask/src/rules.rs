//! The rules of `deploy/prometheus` as the Prometheus Operator wants them: the same groups inside of an object of its kind.
//! kustomize cannot do that, so the file is written, and `cargo xtask check` compares.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::ui;
use crate::workspace::Workspace;

const SOURCES: [&str; 2] = ["deploy/prometheus/rules.yaml", "deploy/prometheus/alerts.yaml"];
const OBJECT: &str = "deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml";
const HEADER: &str = "\
# Written by `cargo xtask check --fix` from deploy/prometheus. A Prometheus takes this where its ruleSelector does.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lossprobe
  namespace: lossprobe
spec:
  groups:
";

/// Compares; `fix` writes it anew instead of complaining.
pub(crate) fn check(workspace: &Workspace, fix: bool) -> Result<()> {
    let mut wanted = HEADER.to_owned();
    for source in SOURCES {
        let text = fs::read_to_string(workspace.path(source)).with_context(|| format!("read {source}"))?;
        wanted += &groups(&text).with_context(|| format!("{source}: no line `groups:`"))?;
    }
    let path = workspace.path(OBJECT);
    if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if !fix {
        bail!("{OBJECT} is not what deploy/prometheus says; to repair: cargo xtask check --fix");
    }
    ui::say(&format!("{OBJECT}: written anew"));
    fs::write(&path, wanted).with_context(|| format!("write {OBJECT}"))
}

/// What stands below `groups:`, as far in as an object's `spec` has it.
fn groups(rules: &str) -> Option<String> {
    const KEY: &str = "groups:\n";
    let (at, _) = rules.match_indices(KEY).find(|(at, _)| *at == 0 || rules[..*at].ends_with('\n'))?;
    let below = &rules[at + KEY.len()..];
    let inside = if below.starts_with("  ") { "  " } else { "    " };
    let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{inside}{line}\n") };
    Some(below.lines().map(indent).collect())
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn keeps_what_is_below() {
        let expected = "    - name: a\n      rules: []\n";
        assert_eq!(groups("# why\n#   groups:\ngroups:\n  - name: a\n    rules: []\n").as_deref(), Some(expected));
        assert_eq!(groups("groups:\n- name: a\n  rules: []\n").as_deref(), Some(expected));
        assert_eq!(groups("rules: []\n"), None);
    }
}
