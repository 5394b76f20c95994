//! A demonstration that needs nothing but root: a throw-away network of namespaces, packets that are lost, refused and
//! broken in known numbers, the agent in the middle, and an account of what was done against what it found.
//!
//! ```text
//!  guest ──── guest0 [host: forwards, filters, agent] uplink0 ──── router: loses 1 % of TCP ──── peer
//! ```
//!
//! Ends by itself; exit status 0 if everything matched. Namespaces and the agent go with this process, however it ends.

mod account;
mod network;

use std::{
    env,
    fs::create_dir,
    os::unix::net::UnixStream,
    path::Path,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use account::Account;
use anyhow::{Result, bail};
use network::Network;
use probe_user::config::DEFAULT_SOCKET;
use tests::{
    agent::{Agent, binary},
    child,
};

/// How often frames are broken that nobody counts.
const EVERY: Duration = Duration::from_secs(1);

const USAGE: &str = "usage: demo [--keep]\n\n  --keep  leave the network and the agent running until Ctrl-C, with broken frames every second";

fn main() -> ExitCode {
    child::init();
    match arguments().and_then(demo) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<bool> {
    match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => Ok(false),
        [keep] if keep == "--keep" => Ok(true),
        [help] if help == "--help" || help == "-h" => {
            println!("{USAGE}");
            std::process::exit(0)
        }
        _ => bail!("{USAGE}"),
    }
}

/// Where `lossprobe` finds the agent by itself, unless another one is there.
fn socket() -> String {
    if UnixStream::connect(DEFAULT_SOCKET).is_ok() {
        return env::temp_dir().join(format!("lossprobe-demo-{}.sock", process::id())).display().to_string();
    }
    if let Some(folder) = Path::new(DEFAULT_SOCKET).parent() {
        // What goes wrong here shows when the agent starts.
        let _exists = create_dir(folder);
    }
    DEFAULT_SOCKET.to_owned()
}

/// Whether everything that was done was found.
fn demo(keep: bool) -> Result<bool> {
    let started = Instant::now();
    let step = |text: &str| eprintln!("[{:4.1} s] {text}", started.elapsed().as_secs_f32());
    step("making four network namespaces: guest - host - router - peer");
    let network = Network::new()?;
    step("starting lossprobe agent in the host namespace");
    let socket = if keep { socket() } else { "none".to_owned() };
    let interfaces = ["--interface", "guest0", "--interface", "uplink0", "--uplink", "uplink0"];
    let agent = Agent::start(&network.host, &[&interfaces[..], &["--socket", &socket]].concat())?;
    let mut account = Account::new(&agent);
    step("guest sends datagrams through the host");
    network.forwarded(&mut account)?;
    step("host refuses datagrams by packet filter, and gets some for a closed port");
    network.refused(&mut account)?;
    step("host sends 16 MiB by TCP through the router that loses 1 %");
    network.retransmitted(&mut account)?;
    step("router sends broken frames to the host");
    network.broken(&mut account)?;
    account.own_losses()?;
    step("done");
    let matched = account.print();
    if keep {
        let enter = format!("nsenter --net=/proc/{}/ns/net", agent.pid());
        println!("\nThe agent keeps running in the host namespace, metrics at http://{}/metrics:", Agent::address());
        println!("  {enter} curl -s http://{}/metrics", Agent::address());
        println!("Every second the router sends a broken frame of each kind:");
        let flag = if socket == DEFAULT_SOCKET { String::new() } else { format!(" --socket {socket}") };
        println!("  {} capture{flag} -w - --count 5 | tshark -r - -T fields -e frame.comment", binary().display());
        println!("Whose fault that is:\n  {} verdict{flag}", binary().display());
        println!("Ctrl-C ends it and removes everything.");
        loop {
            network.one_of_each_broken()?;
            thread::sleep(EVERY);
        }
    }
    agent.stop()?;
    Ok(matched)
}
