//! The bill of materials: every crate that is in the agent or in the program that the kernel runs, as CycloneDX 1.5, from what
//! cargo itself knows. Crates of tests and of this tool are in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::VERSION;
use crate::workspace::{Workspace, output};

/// A crate of the workspace that is compiled for a target, with all that it depends on there.
const ROOTS: [(&str, &str); 2] = [("probe-user", HOST), ("probe-ebpf", "bpfel-unknown-none")];
#[cfg(target_arch = "x86_64")]
const HOST: &str = "x86_64-unknown-linux-gnu";
#[cfg(not(target_arch = "x86_64"))]
const HOST: &str = "aarch64-unknown-linux-gnu";

/// The document.
pub(super) fn build(workspace: &Workspace) -> Result<String> {
    let lock = workspace.path("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
    let mut graph = Graph::default();
    for (root, target) in ROOTS {
        let mut cargo = workspace.cargo("metadata");
        cargo.args(["--locked", "--format-version", "1", "--filter-platform", target]);
        let metadata = serde_json::from_str(&output(&mut cargo)?).context("read what `cargo metadata` says")?;
        graph.add(&metadata, root)?;
    }
    let document = document(&graph, &checksums(&lock));
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// By cargo's package id.
#[derive(Default)]
struct Graph {
    packages: BTreeMap<String, Value>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Adds the crate named `root` and what it needs to be built or to run.
    fn add(&mut self, metadata: &Value, root: &str) -> Result<()> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let packages: BTreeMap<_, _> = list(&metadata["packages"]).into_iter().map(|p| (id(&p["id"]), p)).collect();
        let nodes: BTreeMap<_, _> =
            list(&metadata["resolve"]["nodes"]).into_iter().map(|n| (id(&n["id"]), n)).collect();
        let root = packages.iter().find(|(_, package)| package["name"] == root);
        let mut waiting = vec![root.context("the workspace has changed: see ROOTS in sbom.rs")?.0.clone()];
        let mut seen = BTreeSet::new();
        while let Some(next) = waiting.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            let is_wanted =
                |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            let dependencies = nodes.get(&next).map(|node| list(&node["deps"])).unwrap_or_default();
            let dependencies: Vec<_> = dependencies.iter().filter(|d| is_wanted(d)).map(|d| id(&d["pkg"])).collect();
            waiting.extend(dependencies.iter().cloned());
            self.packages.insert(next.clone(), packages.get(&next).cloned().unwrap_or_default());
            self.edges.entry(next).or_default().extend(dependencies);
        }
        Ok(())
    }

    /// The package URL of a package, which names it in the document.
    fn purl(&self, id: &str) -> String {
        let package = self.packages.get(id).unwrap_or(&Value::Null);
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        format!("pkg:cargo/{}@{}", word("name"), word("version"))
    }
}

/// SHA-256 sums of crates by name and version, as `Cargo.lock` has them.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let word = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|quoted| quoted.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) = (word("name"), word("version"), word("checksum")) {
            sums.insert((name, version), sum);
        }
    }
    sums
}

fn document(graph: &Graph, sums: &BTreeMap<(String, String), String>) -> Value {
    let components: Vec<_> =
        graph.packages.iter().map(|(id, package)| component(&graph.purl(id), package, sums)).collect();
    let dependencies: Vec<_> = graph
        .edges
        .iter()
        .map(|(id, on)| json!({"ref": graph.purl(id), "dependsOn": on.iter().map(|id| graph.purl(id)).collect::<Vec<_>>()}))
        .collect();
    let roots: Vec<_> = ROOTS.iter().map(|(name, _)| format!("pkg:cargo/{name}@{VERSION}")).collect();
    let product = format!("lossprobe@{VERSION}");
    let mut all = vec![json!({"ref": product, "dependsOn": roots})];
    all.extend(dependencies);
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": product, "name": "lossprobe", "version": VERSION,
            "licenses": [{"expression": "(Apache-2.0 OR MIT) AND GPL-2.0-only"}]}},
        "components": components,
        "dependencies": all,
    })
}

fn component(purl: &str, package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let word = |key: &str| package[key].as_str().unwrap_or_default();
    let mut component =
        json!({"type": "library", "bom-ref": purl, "name": word("name"), "version": word("version"), "purl": purl});
    if let Some(licence) = package["license"].as_str() {
        // Cargo's older way to write OR.
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    if let Some(sum) = sums.get(&(word("name").to_owned(), word("version").to_owned())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    if let Some(repository) = package["repository"].as_str() {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_what_is_built_and_no_more() -> Result<()> {
        let node = |id: &str, deps: &[(&str, Option<&str>)]| {
            let deps: Vec<_> =
                deps.iter().map(|(pkg, kind)| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]})).collect();
            json!({"id": id, "deps": deps})
        };
        let package = |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"});
        let packages = ["probe-user", "used", "builds", "tests"].map(package);
        let metadata = json!({
            "packages": packages,
            "resolve": {"nodes": [
                node("probe-user", &[("used", None), ("builds", Some("build")), ("tests", Some("dev"))]),
                node("used", &[]), node("builds", &[]), node("tests", &[]),
            ]},
        });
        let mut graph = Graph::default();
        graph.add(&metadata, "probe-user")?;
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n";
        let document = document(&graph, &checksums(lock));
        let names: Vec<_> =
            document["components"].as_array().into_iter().flatten().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["builds", "probe-user", "used"]);
        assert_eq!(document["components"][2]["hashes"][0]["content"], "ab");
        assert_eq!(document["components"][2]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][2]["dependsOn"], json!(["pkg:cargo/builds@1.0.0", "pkg:cargo/used@1.0.0"]));
        assert!(graph.add(&metadata, "gone").is_err());
        Ok(())
    }
}
