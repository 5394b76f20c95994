//! The manifests, as `kubectl` renders them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{agent::lossprobe, namespace::Namespace, program};

use super::{Scratch, VERSION, declared, on_every_kernel, source};

const OVERLAYS: [&str; 5] =
    ["base", "overlays/plain", "overlays/prometheus-operator", "overlays/cilium", "overlays/hardened"];
/// All of them; that they can be had together is what they are components for.
const COMPONENTS: [&str; 6] =
    ["before-linux-5.11", "cilium", "hardened", "large-nodes", "plain", "prometheus-operator"];
const OLD_KERNEL: &str = COMPONENTS[0];
const LARGE_NODES: &str = COMPONENTS[3];
/// The oldest, one between, and the latest of which `kubernetes-validate` has the schemas.
const KUBERNETES: [&str; 3] = ["1.25", "1.31", "1.37"];

/// Bounds of design §4, in MiB and KiB, and what the agent itself takes at 1,000 interfaces.
const MAPS_MIB: u64 = 16;
const MAPS_KIB_PER_CPU: u64 = 256;
const AGENT_MIB: u64 = 64;

/// Each overlay renders, and Kubernetes' own schemas know every field.
pub(super) fn are_valid() -> Result<()> {
    let namespace = Namespace::new("manifests")?;
    let mut rendered: Vec<(String, String)> = Vec::new();
    for overlay in OVERLAYS {
        rendered.push((overlay.to_owned(), render(&namespace, overlay)?));
    }
    for component in COMPONENTS {
        rendered.push((component.to_owned(), with_components(&namespace, &[component])?));
    }
    rendered.push(("all components".to_owned(), with_components(&namespace, &COMPONENTS)?));
    for (name, text) in &rendered {
        let said = validate(&namespace, text).with_context(|| name.clone())?;
        for (kind, version) in
            ["Namespace", "DaemonSet"].iter().flat_map(|kind| KUBERNETES.map(|version| (kind, version)))
        {
            ensure!(said.lines().any(|line| line == format!("{kind} {version}")), "{name}: {kind} in {said}");
        }
        ensure!(!said.contains("no schema"), "{name}: {said}");
    }
    // That it would see a mistake.
    let (_, good) = rendered.last().context("no overlay")?;
    for (right, wrong, complaint) in [
        ("hostIPC:", "hostIPX:", "'hostIPX' was unexpected"),
        ("jobLabel:", "joblabel:", "'joblabel' was unexpected"),
        ("sampleLimit: 40000", "sampleLimit: many", "'many' is not of type 'integer'"),
        ("severity: critical", "severity: 1", "1 is not of type 'string'"),
    ] {
        let bad = good.replace(right, wrong);
        ensure!(bad != *good, "nobody says {right:?}");
        let refused = validate(&namespace, &bad).map_err(|error| format!("{error:#}"));
        ensure!(refused.as_ref().is_err_and(|error| error.contains(complaint)), "{wrong:?} passes: {refused:?}");
    }
    Ok(())
}

/// Four capabilities, and one more where memory is locked; everything else dropped.
pub(super) fn give_what_is_declared() -> Result<()> {
    let namespace = Namespace::new("capabilities")?;
    for overlay in OVERLAYS {
        let daemon_set = daemon_set(&documents(&namespace, &render(&namespace, overlay)?)?)?;
        let capabilities = &container(&daemon_set)["securityContext"]["capabilities"];
        assert_eq!(names(&capabilities["add"]), declared(on_every_kernel), "{overlay}");
        assert_eq!(capabilities["drop"], json!(["ALL"]), "{overlay}");
    }
    let old = daemon_set(&documents(&namespace, &with_components(&namespace, &[OLD_KERNEL])?)?)?;
    assert_eq!(names(&container(&old)["securityContext"]["capabilities"]["add"]), declared(|_| true));
    Ok(())
}

pub(super) fn fit_the_agent() -> Result<()> {
    let namespace = Namespace::new("pods")?;
    for overlay in OVERLAYS {
        let daemon_set = daemon_set(&documents(&namespace, &render(&namespace, overlay)?)?)?;
        let pod = &daemon_set["spec"]["template"]["spec"];
        let container = container(&daemon_set);
        for (path, expected) in [
            ("/hostNetwork", json!(true)),
            ("/hostPID", json!(false)),
            ("/hostIPC", json!(false)),
            ("/automountServiceAccountToken", json!(false)),
            ("/tolerations", json!([{"operator": "Exists"}])),
        ] {
            ensure!(pod.pointer(path) == Some(&expected), "{overlay}: {path} is {:?}", pod.pointer(path));
        }
        for (path, expected) in [
            ("/image", json!(format!("lossprobe:{VERSION}"))),
            ("/securityContext/runAsUser", json!(0)),
            ("/securityContext/privileged", json!(false)),
            ("/securityContext/allowPrivilegeEscalation", json!(false)),
            ("/securityContext/readOnlyRootFilesystem", json!(true)),
            ("/securityContext/seccompProfile/type", json!("RuntimeDefault")),
            ("/lifecycle/preStop/exec/command", json!(["/lossprobe", "detach"])),
            ("/livenessProbe/httpGet/path", json!("/healthz")),
            ("/readinessProbe/httpGet/path", json!("/readyz")),
        ] {
            ensure!(container.pointer(path) == Some(&expected), "{overlay}: {path} is {:?}", container.pointer(path));
        }
        ensure!(limit_mib(container)? >= most_mib(128), "{overlay}: the limit is below {} MiB", most_mib(128));
    }
    let large = daemon_set(&documents(&namespace, &with_components(&namespace, &[LARGE_NODES])?)?)?;
    ensure!(limit_mib(container(&large))? >= most_mib(512), "large nodes: below {} MiB", most_mib(512));
    Ok(())
}

/// Whatever is put together, nothing of a part is lost, in whatever order they are named.
pub(super) fn components_add_up() -> Result<()> {
    let namespace = Namespace::new("components")?;
    let mut reversed = COMPONENTS;
    reversed.reverse();
    for order in [COMPONENTS, reversed] {
        let documents = documents(&namespace, &with_components(&namespace, &order)?)?;
        let daemon_set = daemon_set(&documents)?;
        let (template, container) = (&daemon_set["spec"]["template"], container(&daemon_set));
        ensure!(names(&container["securityContext"]["capabilities"]["add"]) == declared(|_| true), "before-linux-5.11");
        ensure!(of_kind(&documents, "ConfigMap")?["data"].to_string().contains("tunnel_port"), "cilium");
        ensure!(names(&container["args"]).contains("--redact"), "hardened: {}", container["args"]);
        let volumes = template["spec"]["volumes"].as_array().context("volumes")?;
        ensure!(volumes.iter().all(|volume| volume.get("hostPath").is_none()), "hardened: {volumes:?}");
        ensure!(limit_mib(container)? >= most_mib(512), "large-nodes: {}", container["resources"]);
        ensure!(template["metadata"]["annotations"]["prometheus.io/scrape"] == "true", "plain");
        for kind in ["PodMonitor", "PrometheusRule"] {
            let namespace = &of_kind(&documents, kind)?["metadata"]["namespace"];
            ensure!(*namespace == daemon_set["metadata"]["namespace"], "{kind} is in {namespace}");
        }
    }
    Ok(())
}

/// The agent takes every file of settings that is handed out: it looks for the interfaces then, and here is none.
pub(super) fn settings_are_the_agents() -> Result<()> {
    let namespace = Namespace::new("settings")?;
    for file in
        ["kubernetes/base/lossprobe.toml", "kubernetes/components/cilium/lossprobe.toml", "systemd/lossprobe.toml"]
    {
        let path = source("deploy").join(file).display().to_string();
        let arguments =
            ["agent", "--config", &path, "--state-dir", "none", "--socket", "none", "--interface", "none-such"];
        let output = lossprobe(&namespace, &arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.contains("no interface `none-such`"), "{file}: {said}");
    }
    Ok(())
}

/// What the monitor selects is what the DaemonSet makes, and the rules are those of `deploy/prometheus`.
pub(super) fn monitor_finds_the_pods() -> Result<()> {
    let namespace = Namespace::new("monitor")?;
    let documents = documents(&namespace, &render(&namespace, "overlays/prometheus-operator")?)?;
    let daemon_set = daemon_set(&documents)?;
    let monitor = of_kind(&documents, "PodMonitor")?;
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().context("a selector")?;
    let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
    ensure!(wanted.iter().all(|(name, value)| labels[name] == *value), "{wanted:?} does not select {labels}");
    ensure!(monitor["metadata"]["namespace"] == daemon_set["metadata"]["namespace"], "another namespace");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    let container = container(&daemon_set);
    let port = &container["ports"][0];
    ensure!(endpoint["port"] == port["name"], "another port: {endpoint}");
    // With the host's network a pod is scraped at the node's address: the agent must listen there.
    let listens = format!("--listen=$(HOST_IP):{}", port["containerPort"]);
    ensure!(names(&container["args"]).contains(&listens), "no {listens}: {}", container["args"]);
    ensure!(port["hostPort"] == port["containerPort"], "another port of the node: {port}");
    let address = &container["env"][0];
    ensure!(
        address["name"] == "HOST_IP" && address["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP",
        "{address}"
    );
    let groups = of_kind(&documents, "PrometheusRule")?["spec"]["groups"].clone();
    let mut expected = Vec::new();
    for file in ["rules.yaml", "alerts.yaml"] {
        let path = source("deploy/prometheus").join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        expected.extend(self::documents(&namespace, &text)?[0]["groups"].as_array().context("groups")?.clone());
    }
    ensure!(groups == Value::Array(expected), "not the rules of deploy/prometheus; to repair: cargo xtask check --fix");
    Ok(())
}

/// The base, as documents.
pub(super) fn base(namespace: &Namespace) -> Result<Vec<Value>> {
    documents(namespace, &render(namespace, "base")?)
}

pub(super) fn daemon_set(documents: &[Value]) -> Result<Value> {
    of_kind(documents, "DaemonSet").cloned()
}

pub(super) fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Result<&'d Value> {
    documents.iter().find(|document| document["kind"] == kind).with_context(|| format!("no {kind}"))
}

pub(super) fn container(daemon_set: &Value) -> &Value {
    &daemon_set["spec"]["template"]["spec"]["containers"][0]
}

pub(super) fn limit_mib(container: &Value) -> Result<u64> {
    let limit = container["resources"]["limits"]["memory"].as_str().context("no memory limit")?;
    Ok(limit.strip_suffix("Mi").with_context(|| format!("{limit} is not in Mi"))?.parse()?)
}

fn most_mib(possible_cpus: u64) -> u64 {
    MAPS_MIB + MAPS_KIB_PER_CPU * possible_cpus / 1024 + AGENT_MIB
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn render(namespace: &Namespace, folder: &str) -> Result<String> {
    let folder = source("deploy/kubernetes").join(folder);
    program::run(namespace, "kubectl", &["kustomize", &folder.display().to_string()], "")
}

/// The base with components, as an overlay of somebody's own puts them together.
fn with_components(namespace: &Namespace, components: &[&str]) -> Result<String> {
    let folder = Scratch::new(&components.join("-"))?;
    // kustomize takes no absolute path.
    let depth = "../".repeat(folder.path.components().count());
    let manifests = source("deploy/kubernetes").canonicalize()?;
    let manifests = format!("{depth}{}", manifests.display().to_string().trim_start_matches('/'));
    let text = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("{manifests}/base")],
        "components": components.iter().map(|name| format!("{manifests}/components/{name}")).collect::<Vec<_>>(),
    });
    std::fs::write(folder.path.join("kustomization.yaml"), text.to_string()).context("write a kustomization")?;
    program::run(namespace, "kubectl", &["kustomize", &folder.path.display().to_string()], "")
}

/// Ends with an error at a field that a version's schema does not know; prints what it has looked at. The Prometheus Operator's kinds
/// are none of Kubernetes' own: what is known of them is `monitoring.json`.
const VALIDATOR: &str = "
import sys, json, yaml, jsonschema, kubernetes_validate as k
of_the_operator = json.loads(sys.argv[1])
for document in yaml.safe_load_all(sys.stdin):
    kind = document['kind']
    if document['apiVersion'] == 'monitoring.coreos.com/v1':
        jsonschema.validate(document['spec'], {**of_the_operator[kind], '$defs': of_the_operator['$defs']})
        continue
    for version in sys.argv[2:]:
        try:
            k.validate(document, version, strict=True)
            print(kind, version)
        except k.SchemaNotFoundError:
            print('no schema:', kind, version)
";
/// The fields of PodMonitor and PrometheusRule (`monitoring.coreos.com/v1`) that are used here, with their types, from the
/// operator's API reference.
const MONITORING: &str = include_str!("monitoring.json");

fn validate(namespace: &Namespace, manifests: &str) -> Result<String> {
    python(namespace, VALIDATOR, &[&[MONITORING][..], &KUBERNETES].concat(), manifests)
}

/// YAML, read by the library that the schemas came with.
fn documents(namespace: &Namespace, yaml: &str) -> Result<Vec<Value>> {
    let script = "import sys, json, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let text = python(namespace, script, &[], yaml)?;
    serde_json::from_str(&text).with_context(|| format!("read {text:?}"))
}

/// Runs a script that finds `kubernetes-validate` and what it needs.
fn python(namespace: &Namespace, script: &str, arguments: &[&str], input: &str) -> Result<String> {
    let folder =
        std::env::var("LOSSPROBE_SCHEMAS").context("LOSSPROBE_SCHEMAS: run the tests by `cargo xtask test`")?;
    let path = format!("PYTHONPATH={folder}");
    program::run(namespace, "env", &[&[path.as_str(), "python3", "-c", script], arguments].concat(), input)
}
