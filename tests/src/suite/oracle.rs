//! Prometheus' own programs as judges of the exposition. On hosts only: guests do not have them.

use std::{env, fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tests::{
    agent::Agent,
    child,
    frames::{A, B, Checksum, ethernet},
    http, program,
    run::trial,
    topology::{Pair, RIGHT},
    wait::eventually,
    wire::PacketSocket,
};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("oracle::promtool_is_silent", promtool_is_silent),
        trial("oracle::prometheus_scrapes", prometheus_scrapes),
    ]
}

fn promtool_is_silent() -> Result<()> {
    let pair = Pair::new()?;
    let Pair { left, right } = &pair;
    right.alias("b", "a \"quoted\" \\ alias")?;
    let agent = Agent::start(right, &["--interface", "b"])?;
    // Something of everything, so that no metric family is empty.
    left.send_udp((RIGHT, 9), 10, 10)?;
    let broken = ethernet(B, A).ipv4(|ip| ip.checksum = Checksum::Wrong).udp(1, 2).payload(50).bytes();
    PacketSocket::sender(left, "a")?.send_copies(&broken, 10)?;
    let text = agent.get("/metrics")?;
    let output = program::output(right, "promtool", &["check", "metrics"], &text)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && said.is_empty(), "promtool says {}: {said}", output.status);
    agent.stop()
}

/// A folder that is removed with all it holds.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn prometheus_scrapes() -> Result<()> {
    program::installed("prometheus")?;
    let pair = Pair::new()?;
    let Pair { right, .. } = &pair;
    let agent = Agent::start(right, &["--interface", "b"])?;
    let scratch = Scratch(env::temp_dir().join(format!("lossprobe-tests-prometheus-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let config = scratch.0.join("prometheus.yml");
    fs::write(
        &config,
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: lossprobe\n  static_configs:\n  - targets: [127.0.0.1:9976]\n",
    )?;
    let log = fs::File::create(scratch.0.join("log"))?;
    let mut server = child::command(right, "prometheus")?
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", scratch.0.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:9090")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start prometheus")?;
    let address: SocketAddr = ([127, 0, 0, 1], 9090).into();
    let api = |path: &str| -> Result<Value> {
        let response = http::get(right, address, &format!("/api/v1/{path}"), &[])?;
        Ok(serde_json::from_str(&response.body)?)
    };
    let query = |expression: &str| api(&format!("query?query={expression}"));
    let scraped = eventually(Duration::from_secs(60), "prometheus has scraped the agent", || {
        let up = query("up")?["data"]["result"][0]["value"][1].clone();
        ensure!(up == "1", "up is {up}");
        let info = query("lossprobe_interface_info")?["data"]["result"].clone();
        ensure!(info.as_array().is_some_and(|series| !series.is_empty()), "no interface_info: {info}");
        // Only OpenMetrics has the type info, and units; in the text format this family is a gauge with the suffix.
        for (family, field, expected) in [("lossprobe_interface", "type", "info"), ("lossprobe_bytes", "unit", "bytes")]
        {
            let told = api(&format!("targets/metadata?metric={family}"))?["data"].clone();
            ensure!(told[0][field] == expected, "{field} of {family} is not {expected}: {told}");
        }
        Ok(())
    });
    let said = fs::read_to_string(scratch.0.join("log")).unwrap_or_default();
    server.kill()?;
    server.wait()?;
    scraped.with_context(|| format!("prometheus says:\n{said}"))?;
    agent.stop()
}
