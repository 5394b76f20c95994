//! The image in a container: its root file system and nothing else, read-only, with the capabilities, mounts and limits of the
//! DaemonSet, by the program that container runtimes start containers with (runc). Then once more as the unit would start it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{
    child, http,
    metrics::Metrics,
    namespace::Namespace,
    program,
    topology::{Pair, RIGHT},
    wait::eventually,
};

use super::{Scratch, VERSION, artefact, manifests, unit};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(RIGHT), 9976);
/// Who is nobody.
const NOBODY: u32 = 65_534;

/// As the DaemonSet says, from its arguments to preStop.
pub(super) fn as_the_pod_says() -> Result<()> {
    let pair = Pair::new()?;
    let scratch = Scratch::new("pod")?;
    let documents = manifests::base(&pair.right)?;
    let daemon_set = manifests::daemon_set(&documents)?;
    let container = manifests::container(&daemon_set);
    let image = Image::unpack(&pair.right, &scratch)?;
    assert_eq!(image.config["Entrypoint"], json!(["/lossprobe"]));
    assert_eq!(image.config["Labels"]["org.opencontainers.image.version"], VERSION);

    let security = &container["securityContext"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let capabilities: Vec<_> =
        list(&security["capabilities"]["add"]).iter().filter_map(Value::as_str).map(capability).collect();
    let arguments = list(&container["args"]).into_iter().map(|word| expand(&word));
    let mut mounts = Vec::new();
    for mount in list(&container["volumeMounts"]) {
        let (name, to) = (mount["name"].as_str().context("name")?, mount["mountPath"].as_str().context("mountPath")?);
        let from = scratch.folder(name)?;
        if name == "config" {
            let (file, text) = manifests::of_kind(&documents, "ConfigMap")?["data"]
                .as_object()
                .and_then(|data| data.iter().next())
                .context("data")?;
            fs::write(from.join(file), text.as_str().context("text")?)?;
        }
        mounts.push((from, to.to_owned(), mount["readOnly"] == true));
    }
    let spec = Spec {
        uid: u32::try_from(security["runAsUser"].as_u64().context("runAsUser")?)?,
        arguments: list(&image.config["Entrypoint"]).into_iter().chain(arguments).collect(),
        read_only: security["readOnlyRootFilesystem"] == true,
        capabilities,
        ambient: false,
        mounts,
        memory_mib: Some(manifests::limit_mib(container)?),
        calls: None,
    };
    let mut running = Running::start(&pair.right, &scratch, &image, &spec, "pod")?;
    counts(&pair, ADDRESS).with_context(|| running.log())?;
    ensure!(fs::read_dir(scratch.path.join("state"))?.next().is_some(), "nothing is in the state folder");
    let stop = list(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let stop: Vec<_> = stop.iter().filter_map(Value::as_str).collect();
    running.runc(&[&["exec", running.name.as_str()][..], &stop].concat())?;
    let response = http::get(&pair.right, ADDRESS, "/readyz", &[])?;
    ensure!(response.status == 503, "after preStop /readyz says {}: {}", response.status, response.body);
    running.stop()
}

/// As the unit says: a user who is nobody, ambient capabilities, the system call filter, and everything read-only but two folders.
pub(super) fn as_the_unit_says() -> Result<()> {
    let pair = Pair::new()?;
    let scratch = Scratch::new("as-unit")?;
    let image = Image::unpack(&pair.right, &scratch)?;
    let mut mounts = Vec::new();
    for (setting, root) in [("RuntimeDirectory", "/run"), ("StateDirectory", "/var/lib")] {
        let name = unit::words(setting)?.remove(0);
        let from = scratch.folder(setting)?;
        chown(&from, Some(NOBODY), Some(NOBODY)).context("chown")?;
        mounts.push((from, format!("{root}/{name}"), false));
    }
    let arguments = ["/lossprobe", "agent", "--listen=10.0.0.2:9976", "--state-dir=/var/lib/lossprobe"];
    let spec = Spec {
        uid: NOBODY,
        arguments: arguments.map(Value::from).to_vec(),
        read_only: true,
        capabilities: unit::words("AmbientCapabilities")?,
        ambient: true,
        mounts,
        memory_mib: None,
        calls: Some(unit::allowed_calls(&pair.right)?.into_iter().collect()),
    };
    let mut running = Running::start(&pair.right, &scratch, &image, &spec, "unit")?;
    counts(&pair, ADDRESS).with_context(|| running.log())?;
    running.stop()
}

fn capability(name: &str) -> String {
    format!("CAP_{name}")
}

/// As the kubelet does it with variables of the environment.
fn expand(word: &Value) -> Value {
    word.as_str().unwrap_or_default().replace("$(HOST_IP)", &ADDRESS.ip().to_string()).into()
}

/// The image, unpacked.
struct Image {
    root: PathBuf,
    config: Value,
}

impl Image {
    fn unpack(namespace: &Namespace, scratch: &Scratch) -> Result<Self> {
        let (layout, root) = (scratch.folder("layout")?, scratch.folder("root")?);
        untar(namespace, &artefact(".oci.tar")?, &layout)?;
        let json = |path: PathBuf| -> Result<Value> {
            serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("read {}", path.display()))
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            layout.join("blobs").join(digest.replace(':', "/"))
        };
        let manifest = json(blob(&json(layout.join("index.json"))?["manifests"][0]))?;
        for layer in manifest["layers"].as_array().context("layers")? {
            untar(namespace, &blob(layer), &root)?;
        }
        let config = json(blob(&manifest["config"]))?["config"].clone();
        Ok(Self { root, config })
    }
}

fn untar(namespace: &Namespace, file: &Path, to: &Path) -> Result<()> {
    let (file, to) = (file.display().to_string(), to.display().to_string());
    program::run(namespace, "tar", &["--extract", "--file", &file, "--directory", &to], "").map(drop)
}

/// What a container is given.
struct Spec {
    uid: u32,
    arguments: Vec<Value>,
    read_only: bool,
    capabilities: Vec<String>,
    ambient: bool,
    /// A folder, where it is seen, and whether read-only.
    mounts: Vec<(PathBuf, String, bool)>,
    memory_mib: Option<u64>,
    /// The only system calls that there are.
    calls: Option<Vec<String>>,
}

impl Spec {
    /// In the form of the OCI runtime specification 1.0. The network namespace is that of who starts it, as with `hostNetwork`;
    /// what is masked and read-only below /proc is what container runtimes mask.
    fn config(&self, image: &Image) -> Value {
        let none: [String; 0] = [];
        let ambient = if self.ambient { self.capabilities.as_slice() } else { &none };
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        for (from, to, read_only) in &self.mounts {
            let options = if *read_only { json!(["bind", "ro"]) } else { json!(["bind", "rw"]) };
            mounts.push(json!({"destination": to, "type": "bind", "source": from, "options": options}));
        }
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": self.uid, "gid": self.uid},
                "args": self.arguments,
                "env": ["PATH=/"],
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {"bounding": self.capabilities, "effective": self.capabilities, "permitted": self.capabilities,
                    "inheritable": ambient, "ambient": ambient},
            },
            "root": {"path": image.root, "readonly": self.read_only},
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}],
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        if let Some(mib) = self.memory_mib {
            config["linux"]["resources"] = json!({"memory": {"limit": mib << 20}});
        }
        if let Some(calls) = &self.calls {
            let allowed = json!([{"names": calls, "action": "SCMP_ACT_ALLOW"}]);
            config["linux"]["seccomp"] =
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": allowed});
        }
        config
    }
}

/// Frames are counted, kernel functions have names, and nothing of the confinement is missing.
pub(super) fn counts(pair: &Pair, address: SocketAddr) -> Result<()> {
    const FRAMES: usize = 1000;
    let labels = [("interface", "b"), ("direction", "ingress")];
    let metrics = || Metrics::parse(&http::get(&pair.right, address, "/metrics", &[])?.body);
    let before = metrics()?.sum("lossprobe_frames_total", &labels);
    let _sink = pair.right.udp((RIGHT, 5000))?;
    pair.left.send_udp((RIGHT, 5000), FRAMES, 10)?;
    eventually(STOP, "the frames are counted", || {
        let counted = metrics()?.sum("lossprobe_frames_total", &labels) - before;
        ensure!(counted >= FRAMES as f64, "{counted} frames");
        Ok(())
    })?;
    let features: BTreeMap<_, _> = metrics()?
        .select("lossprobe_feature_available", &[])
        .filter_map(|sample| Some((sample.labels.get("feature")?.clone(), sample.value)))
        .collect();
    for feature in ["kfree_skb", "drop_members", "drop_functions", "no_new_privs", "seccomp"] {
        ensure!(features.get(feature) == Some(&1.0), "{feature} is {:?}", features.get(feature));
    }
    Ok(())
}

/// A container; killed and removed when dropped.
struct Running<'n> {
    namespace: &'n Namespace,
    child: Child,
    state: String,
    name: String,
    log: PathBuf,
}

impl<'n> Running<'n> {
    fn start(namespace: &'n Namespace, scratch: &Scratch, image: &Image, spec: &Spec, name: &str) -> Result<Self> {
        program::installed("runc")?;
        let (bundle, state) = (scratch.folder("bundle")?, scratch.folder("runc")?);
        fs::write(bundle.join("config.json"), spec.config(image).to_string())
            .context("write the container's specification")?;
        let (state, log) = (state.display().to_string(), scratch.path.join("log"));
        let name = format!("lossprobe-tests-{}-{name}", std::process::id());
        let child = child::command(namespace, "runc")?
            .args(["--root", &state, "run", "--bundle", &bundle.display().to_string(), &name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("start runc")?;
        let mut running = Self { namespace, child, state, name, log };
        let ready = eventually(START, "the agent in the container is ready", || {
            if let Some(status) = running.child.try_wait()? {
                return Ok(Err(status));
            }
            let response = http::get(namespace, ADDRESS, "/readyz", &[])?;
            ensure!(response.status == 200, "/readyz says {}: {}", response.status, response.body);
            Ok(Ok(()))
        });
        match ready.with_context(|| running.log())? {
            Ok(()) => Ok(running),
            Err(status) => bail!("the container ended with {status}: {}", running.log()),
        }
    }

    fn runc(&self, arguments: &[&str]) -> Result<String> {
        program::run(self.namespace, "runc", &[&["--root", &self.state][..], arguments].concat(), "")
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to end, as the kubelet does, and expects it to do so in order.
    fn stop(&mut self) -> Result<()> {
        self.runc(&["kill", &self.name, "TERM"])?;
        let status = eventually(STOP, "the container has ended", || self.child.try_wait()?.context("it runs"))?;
        ensure!(status.success(), "ended with {status}: {}", self.log());
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // It has gone by itself where all went well.
        let _gone = self.runc(&["delete", "--force", &self.name]);
        let _reaped = self.child.wait();
    }
}
