//! The sockets the agent listens on: TCP, and a unix socket for the commands of the same machine.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket},
        stat::{Mode, fchmod},
    },
    unistd::{Gid, chown},
};

use super::web::Web;

/// Owner and group may talk to the agent. The snapshot names interfaces and drop reasons, nothing more secret.
const SOCKET_MODE: u32 = 0o660;

/// Connections that wait for being accepted.
const BACKLOG: i32 = 128;

/// Bound sockets that nobody serves yet. Dropping it removes the unix socket.
#[derive(Debug)]
pub struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) unix: Option<UnixSocket>,
    pub(super) web: Option<Arc<Web>>,
}

/// Where a unix socket is, and who may open it besides its owner: this group, else that of the process or folder.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Its file.
    pub path: &'p Path,
    /// The group's number.
    pub group: Option<u32>,
}

/// A listening unix socket that is removed with its owner.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl UnixSocket {
    /// The socket, and the guard that removes its file.
    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Listeners {
    /// Listens on `tcp` (port 0 for any) and, with mode 0660, on `unix`, where the socket of a dead agent is replaced.
    ///
    /// # Errors
    /// With the address, the cause and what to do, when an address is taken, absent or not permitted.
    pub fn bind(tcp: SocketAddr, unix: Option<Place<'_>>) -> Result<Self> {
        let listener = TcpListener::bind(tcp).map_err(|error| explain_tcp(tcp, &error))?;
        listener.set_nonblocking(true).with_context(|| format!("make the socket of {tcp} non-blocking"))?;
        Ok(Self { tcp: listener, unix: unix.map(bind_unix).transpose()?, web: None })
    }

    /// Has the TCP address protected.
    #[must_use]
    pub fn protected_by(self, web: Option<Arc<Web>>) -> Self {
        Self { web, ..self }
    }

    /// Where it listens by TCP; names the port that was chosen for port 0.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn address(&self) -> Result<SocketAddr> {
        self.tcp.local_addr().context("ask for the address of the listening socket")
    }
}

fn explain_tcp(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let (cause, next) = match error.kind() {
        ErrorKind::AddrInUse => (
            "another program, perhaps another lossprobe agent, listens there".to_owned(),
            format!("stop it (`ss -ltnp 'sport = :{}'` names it) or choose another address", address.port()),
        ),
        ErrorKind::AddrNotAvailable => {
            ("no interface of this network namespace has that address".to_owned(), "choose another address".to_owned())
        }
        ErrorKind::PermissionDenied => {
            ("ports under 1024 need CAP_NET_BIND_SERVICE".to_owned(), "choose another port".to_owned())
        }
        _other => (error.to_string(), "choose another address".to_owned()),
    };
    anyhow!("cannot listen on {address}: {cause}; {next} with --listen ADDR:PORT")
}

fn bind_unix(Place { path, group }: Place<'_>) -> Result<UnixSocket> {
    let shown = path.display();
    remove_stale(path)?;
    let attempt = || -> nix::Result<OwnedFd> {
        let (socket, address) = unix_socket(path)?;
        // Linux takes the mode of the file from the socket, less the umask: it never exists with a wider one.
        fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE))?;
        bind(socket.as_raw_fd(), &address)?;
        Ok(socket)
    };
    let socket = attempt().map_err(|error| match error {
        Errno::EADDRINUSE => taken(path),
        Errno::ENOENT => anyhow!("cannot listen on {shown}: its directory does not exist; create it, or see --socket"),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            anyhow!("cannot listen on {shown}: {}; choose a writable directory with --socket PATH", error.desc())
        }
        Errno::ENAMETOOLONG => anyhow!("cannot listen on {shown}: longer than 107 bytes; choose another --socket PATH"),
        other => anyhow!("cannot listen on {shown}: {}; choose another place with --socket PATH", other.desc()),
    })?;
    let file = SocketFile::of(path)?;
    // Nobody listens yet, so nobody of the wrong group gets through.
    // Where it is the process's own, nothing is changed: a system call filter may forbid that.
    let found = fs::metadata(path).with_context(|| format!("look at {shown}"))?;
    if let Some(group) = group.filter(|group| *group != found.gid()) {
        chown(path, None, Some(Gid::from_raw(group))).map_err(|error| {
            let next_step = "be a member of it, or start with CAP_CHOWN (a service manager's system call filter may forbid it all the same; \
                             start with that group instead, as by `Group=`), or leave --socket-group out";
            anyhow!("cannot give {shown} to group {group}: {}; {next_step}", error.desc())
        })?;
    }
    // The umask may have taken the group's bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).with_context(|| format!("chmod {shown}"))?;
    let backlog = Backlog::new(BACKLOG).context("backlog")?;
    listen(&socket, backlog).with_context(|| format!("listen on {shown}"))?;
    Ok(UnixSocket { listener: UnixListener::from(socket), file })
}

fn unix_socket(path: &Path) -> nix::Result<(OwnedFd, UnixAddr)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok((socket(AddressFamily::Unix, SockType::Stream, flags, None)?, UnixAddr::new(path)?))
}

fn taken(path: &Path) -> anyhow::Error {
    anyhow!(
        "another lossprobe agent listens on {}; stop it, or give this one a --socket PATH of its own",
        path.display()
    )
}

/// Removes the socket of an agent that is gone. Two agents that start in the same instant may both find it so; the
/// one that binds its TCP port second then ends, and its guard leaves the other's socket alone.
fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {shown}")),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("cannot listen on {shown}: it exists and is not a socket; choose another --socket PATH");
        }
        Ok(_socket) => {}
    }
    let answer = unix_socket(path).and_then(|(socket, address)| connect(socket.as_raw_fd(), &address));
    match answer {
        // EAGAIN: somebody listens, with a full backlog.
        Ok(()) | Err(Errno::EAGAIN) => Err(taken(path)),
        Err(Errno::ECONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {shown}, the socket of an agent that is gone"))
            }
            Ok(()) | Err(_) => Ok(()),
        },
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => bail!("cannot tell whether an agent listens on {shown}: {}", error.desc()),
    }
}

/// Removes the socket's file when dropped, unless another agent has put its own there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Result<Self> {
        let identity = identity(path).with_context(|| format!("look at {}", path.display()))?;
        Ok(Self { path: path.to_owned(), identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A socket that stays is found to be stale by the next agent.
            let _stays = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixStream, process};

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn path(name: &str) -> PathBuf {
        env::temp_dir().join(format!("lossprobe-listen-{}-{name}", process::id()))
    }

    fn at(path: &Path) -> Place<'_> {
        Place { path, group: None }
    }

    fn error(path: &Path) -> String {
        format!("{:#}", Listeners::bind(ANY, Some(at(path))).unwrap_err())
    }

    #[test]
    fn a_socket_has_its_mode_and_is_removed() {
        let path = path("mode");
        let listeners = Listeners::bind(ANY, Some(at(&path))).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, SOCKET_MODE);
        UnixStream::connect(&path).unwrap();
        drop(listeners);
        assert!(!path.exists());
    }

    /// A user may give a file to any of its own groups.
    #[test]
    fn a_socket_belongs_to_the_group_that_was_asked_for() {
        let path = path("group");
        let mut groups = nix::unistd::getgroups().unwrap();
        groups.extend(nix::unistd::geteuid().is_root().then_some(Gid::from_raw(54_321)));
        for group in groups.into_iter().map(Gid::as_raw) {
            let listeners = Listeners::bind(ANY, Some(Place { path: &path, group: Some(group) })).unwrap();
            let file = fs::metadata(&path).unwrap();
            assert_eq!((file.gid(), file.permissions().mode() & 0o7777), (group, SOCKET_MODE));
            drop(listeners);
        }
    }

    #[test]
    fn a_live_agent_is_left_alone_and_a_dead_one_replaced() {
        let path = path("live");
        let first = Listeners::bind(ANY, Some(at(&path))).unwrap();
        assert!(error(&path).contains(&format!("another lossprobe agent listens on {}", path.display())));
        UnixStream::connect(&path).unwrap();
        drop(first);

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead agent's");
        let second = Listeners::bind(ANY, Some(at(&path))).unwrap();
        UnixStream::connect(&path).unwrap();

        // Somebody else's file in the same place outlives the agent.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(second);
        assert!(error(&path).contains("not a socket"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn errors_name_the_address_and_the_next_step() {
        let first = Listeners::bind(ANY, None).unwrap();
        let address = first.address().unwrap();
        let message = Listeners::bind(address, None).unwrap_err().to_string();
        assert!(message.contains(&address.to_string()) && message.contains("--listen ADDR:PORT"), "{message}");
        let absent = Listeners::bind("192.0.2.1:0".parse().unwrap(), None).unwrap_err().to_string();
        assert!(absent.contains("no interface"), "{absent}");
        assert!(error(Path::new("/nonexistent/a.sock")).contains("directory does not exist"));
        assert!(error(Path::new(&format!("/tmp/{}", "x".repeat(120)))).contains("longer than 107 bytes"));
    }
}
