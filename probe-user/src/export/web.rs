//! What protects the TCP address while the agent runs: the file of `--web-config` and the certificates that it names, read again
//! every few seconds and on SIGHUP. What has changed is taken over if all of it is good, else what is served stays as it was,
//! which the log and a metric say. The unix socket is protected by its mode alone.
//!
//! Files are read behind [`confine`](crate::kernel::privilege::confine), the first time, too: what could only be read with the
//! privileges of the start could never be renewed.

mod passwords;
mod tls;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::http::{HeaderName, HeaderValue};
use nix::{
    fcntl::OFlag,
    unistd::{getegid, geteuid},
};
use ring::digest::{self, SHA256};
use rustls::ServerConfig;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

pub(super) use self::passwords::Answer;
use self::passwords::Passwords;
use crate::config::{Clients, PasswordHash, WebConfig};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A look at the files that takes longer hangs.
const LOOK_TAKES: Duration = Duration::from_secs(30);
/// Most that is read of a file.
const MOST_BYTES: u64 = 1 << 20;

/// What protects the TCP address.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    state: Mutex<State>,
    passwords: Passwords,
}

#[derive(Debug)]
struct State {
    served: Arc<Served>,
    /// What is wrong with the files as they are now.
    fault: Option<String>,
}

/// One state of the files, put to use.
#[derive(Debug)]
struct Served {
    /// Of everything that was read.
    digest: Vec<u8>,
    tls: Option<Arc<ServerConfig>>,
    asks_for_certificates: bool,
    users: Arc<BTreeMap<String, PasswordHash>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Web {
    /// Reads the file and what it names.
    ///
    /// # Errors
    /// If one of them cannot be read by this user as it is now, or is not what it should be.
    pub fn start(path: &Path) -> Result<Self> {
        let served = Arc::new(Files::read(path)?.serve()?);
        if !served.users.is_empty() && served.tls.is_none() {
            warn!("{} asks for passwords without TLS: whoever is on the way reads them", path.display());
        }
        let state = Mutex::new(State { served, fault: None });
        Ok(Self { path: path.to_owned(), state, passwords: Passwords::new()? })
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.served().tls.is_some() { "https" } else { "http" }
    }

    /// Whether what is served is what the files say.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.state().fault.is_none()
    }

    /// Looks at the files, from time to time and on SIGHUP, for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut hang_up =
            signal(SignalKind::hangup()).inspect_err(|error| warn!("SIGHUP is not listened for: {error}")).ok();
        loop {
            let called = async {
                match &mut hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                _ = called => info!("looking at {} again", self.path.display()),
            }
            let web = Arc::clone(&self);
            // A disk that hangs holds up this loop and nothing else.
            let mut look = spawn_blocking(move || web.look());
            if timeout(LOOK_TAKES, &mut look).await.is_err() {
                self.blame(format!("reading it has taken longer than {LOOK_TAKES:?}"));
                let _ended = look.await;
            }
        }
    }

    /// Takes over what has changed, if it is good.
    fn look(&self) {
        let served = self.served();
        let outcome = Files::read(&self.path).and_then(|files| files.serve_after(&served));
        let next = match outcome {
            Ok(next) => next,
            Err(error) => return self.blame(format!("{error:#}")),
        };
        let path = self.path.display();
        let mut state = self.state();
        match next {
            None if state.fault.is_none() => {}
            None => info!("{path} and its files are as they are served again"),
            Some(served) => {
                info!("{path} or one of its files has changed: what they say now is served");
                state.served = Arc::new(served);
            }
        }
        state.fault = None;
    }

    /// What is served stays as it was, for this reason.
    fn blame(&self, fault: String) {
        let mut state = self.state();
        if state.fault.as_ref() != Some(&fault) {
            warn!("{} is not taken over, what is served stays as it was: {fault}", self.path.display());
        }
        state.fault = Some(fault);
    }

    /// Speaks TLS as the files say, `None` where they say nothing of it.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.served().tls.clone().map(TlsAcceptor::from)
    }

    /// Whether somebody is let in with these credentials, the value of `Authorization`.
    pub(super) async fn answer(&self, credentials: Option<&HeaderValue>) -> Answer {
        let users = Arc::clone(&self.served().users);
        if users.is_empty() { Answer::LetIn } else { self.passwords.answer(&users, credentials).await }
    }

    /// Fields that every answer has.
    pub(super) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.served().headers.clone()
    }

    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.state().served)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the files hold.
struct Files {
    config: WebConfig,
    digest: Vec<u8>,
    certificates: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

impl Files {
    fn read(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
        let config = WebConfig::parse(path, text)?;
        let of = |path: Option<&Path>| path.map_or_else(|| Ok(Vec::new()), read);
        let tls = config.tls.as_ref();
        let certificates = of(tls.map(|tls| tls.cert_file.as_path()))?;
        let key = of(tls.map(|tls| tls.key_file.as_path()))?;
        let authorities = of(tls.and_then(|tls| match &tls.clients {
            Clients::Anybody => None,
            Clients::Vouched { ca_file, .. } => Some(ca_file.as_path()),
        }))?;
        let mut digest = Vec::new();
        for part in [&bytes, &certificates, &key, &authorities] {
            digest.extend_from_slice(digest::digest(&SHA256, part).as_ref());
        }
        Ok(Self { config, digest, certificates, key, authorities })
    }

    fn serve(self) -> Result<Served> {
        let Self { config: WebConfig { tls, users, headers, wants_http2 }, digest, .. } = &self;
        if *wants_http2 {
            info!("http2 is asked for; what is served is HTTP/1.1, on which clients agree by themselves");
        }
        let asks_for_certificates =
            tls.as_ref().is_some_and(|tls| matches!(tls.clients, Clients::Vouched { required: true, .. }));
        Ok(Served {
            digest: digest.clone(),
            tls: tls.as_ref().map(|tls| tls::server(tls, &self).map(Arc::new)).transpose()?,
            asks_for_certificates,
            users: Arc::new(users.clone()),
            headers: headers.clone(),
        })
    }

    /// `None` where nothing has changed. A file that is just being written must not open what was closed: what asks for more can
    /// come at any time, what asks for less takes a restart.
    fn serve_after(self, served: &Served) -> Result<Option<Served>> {
        if self.digest == served.digest {
            return Ok(None);
        }
        let next = self.serve()?;
        ensure!(next.tls.is_some() == served.tls.is_some(), "TLS begins or ends with a restart only");
        for (what, was_asked, is_asked) in [
            ("passwords", !served.users.is_empty(), !next.users.is_empty()),
            ("clients' certificates", served.asks_for_certificates, next.asks_for_certificates),
        ] {
            ensure!(is_asked || !was_asked, "{what} are no longer asked for, which takes a restart");
        }
        Ok(Some(next))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let mut bytes = Vec::new();
    // A pipe that nobody writes to would be waited for; links are followed, as Kubernetes mounts secrets behind them.
    let open = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let read = open.and_then(|file| match file.metadata()?.is_file() {
        true => file.take(MOST_BYTES + 1).read_to_end(&mut bytes),
        false => Err(io::Error::other("it is no file")),
    });
    read.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => anyhow!(
            "cannot read {shown}: permission denied; it is read by user {} and group {} without any privilege, so that it can be \
             read again later: let them read it, and enter its folders",
            geteuid(),
            getegid()
        ),
        _other => anyhow!("cannot read {shown}: {error}"),
    })?;
    ensure!(bytes.len() as u64 <= MOST_BYTES, "{shown} has more than {MOST_BYTES} bytes");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that nobody writes to would be waited for, by the agent that starts, and by every later look.
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let pipe = std::env::temp_dir().join(format!("lossprobe-web-{}", std::process::id()));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let said = [pipe.as_path(), Path::new("/")].map(|path| Files::read(path).err().unwrap().to_string());
        std::fs::remove_file(&pipe).unwrap();
        assert!(said.iter().all(|said| said.contains("it is no file")), "{said:?}");
    }
}
