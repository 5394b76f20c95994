//! A driver's own counters (`ethtool -S`), which the kernel gives by ioctl(2) only (`SIOCETHTOOL`,
//! uapi/linux/ethtool.h). Asking needs no privilege.
#![allow(unsafe_code, reason = "SIOCETHTOOL has no safe wrapper")]

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

const GSTRINGS: u32 = 0x1b;
const GSTATS: u32 = 0x1d;
const GSSET_INFO: u32 = 0x37;
const SET_STATS: u32 = 1;
/// `ETH_GSTRING_LEN`.
const NAME_BYTES: usize = 32;
/// Counters that there is room for. The kernel writes as many as the driver has at that moment, whatever was announced
/// before, so it must be more than any driver ever has: mlx5 with 256 channels has about 12,000.
const ROOM: usize = 1 << 16;

/// A socket of this namespace, to ask through.
#[derive(Debug)]
pub(super) struct Ethtool {
    socket: OwnedFd,
    /// `struct ethtool_stats`: command, count, 64-bit values. What is not written to takes no memory.
    stats: Vec<u32>,
}

impl Ethtool {
    /// Opens one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn open() -> Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
        Ok(Self { socket: socket.context("open a socket to ask drivers through")?, stats: vec![0; 2 + 2 * ROOM] })
    }

    /// Names of the device's counters; empty where the driver has none.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn names(&self, device: &str) -> Result<Vec<String>> {
        // struct ethtool_sset_info: command, reserved, mask of sets, then a number for each set in it.
        let mut info = [GSSET_INFO, 0, 0, 0, 0, 0];
        info[2..4].copy_from_slice(&halves(1 << SET_STATS));
        match self.ask(device, &mut info) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            asked => asked?,
        }
        let count = if joined([info[2], info[3]]) == 0 { 0 } else { info[4] };
        ensure!(count as usize <= ROOM, "{device}: {count} counters");
        if count == 0 {
            return Ok(Vec::new());
        }
        // struct ethtool_gstrings: command, set, count, names.
        let mut strings = vec![0; 3 + ROOM * NAME_BYTES / size_of::<u32>()];
        strings[..3].copy_from_slice(&[GSTRINGS, SET_STATS, count]);
        self.ask(device, &mut strings)?;
        let names = strings[3..].chunks_exact(NAME_BYTES / size_of::<u32>()).take(strings[2] as usize);
        let name = |words: &[u32]| {
            let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
            String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).trim().to_owned()
        };
        Ok(names.map(name).collect())
    }

    /// The device's counters, in the order of their names; `None` if they are not as many any more.
    ///
    /// # Errors
    /// The device is gone.
    pub(super) fn values(&mut self, device: &str, count: usize) -> Result<Option<Vec<u64>>> {
        let mut stats = std::mem::take(&mut self.stats);
        stats[..2].copy_from_slice(&[GSTATS, u32::try_from(count)?]);
        let asked = self.ask(device, &mut stats);
        let (values, _) = stats[2..].as_chunks::<2>();
        let same = stats[1] as usize == count;
        let values = same.then(|| values.iter().take(count).map(|value| joined(*value)).collect());
        self.stats = stats;
        asked?;
        Ok(values)
    }

    /// Hands the kernel a command's structure, to be filled in.
    fn ask(&self, device: &str, command: &mut [u32]) -> io::Result<()> {
        let mut ifr_name = [0; libc::IFNAMSIZ];
        if device.len() >= ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in ifr_name.iter_mut().zip(device.bytes()) {
            *to = from.cast_signed();
        }
        let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: command.as_mut_ptr().cast() };
        let mut request = libc::ifreq { ifr_name, ifr_ifru };
        // SAFETY: the kernel reads the request, whose name ends with NUL (checked above), and writes to the structure it
        // points to: `command`, which is borrowed until the call ends. It writes one number for the set asked for, or as
        // many values or names as the driver has, and no driver has `ROOM`.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn joined([first, second]: [u32; 2]) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_wholes() {
        assert_eq!(joined(halves(0x0123_4567_89ab_cdef)), 0x0123_4567_89ab_cdef);
    }

    #[test]
    fn the_running_kernel() {
        let ethtool = Ethtool::open().unwrap();
        assert_eq!(ethtool.names("lo").unwrap(), Vec::<String>::new(), "the loopback has none");
        assert!(ethtool.names("no-such-device").is_err());
        assert!(ethtool.names("a-name-that-is-too-long-for-a-device").is_err());
    }
}
