//! Frames by hand: packet sockets that send exactly what they are given and count what arrives.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    libc,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType,
            bind, recv, recvfrom, recvmsg, send, sendmmsg, setsockopt, socket, sockopt,
        },
        time::{TimeSpec, TimeVal, TimeValLike as _},
    },
};

use crate::{frames, namespace::Namespace, raw};

/// Longest frame that is sent or received: a GSO packet of 64 KiB and its link header.
const LONGEST: usize = 65_536 + 64;

/// How long one send or receive may block.
const PATIENCE: Duration = Duration::from_secs(5);

/// A packet socket on one interface.
pub struct PacketSocket {
    fd: OwnedFd,
    interface: String,
}

impl PacketSocket {
    /// A socket that sends on `interface` and receives nothing.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn sender(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::open(namespace, interface, None)
    }

    /// A socket that also sees every frame received on `interface`, from now on.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn receiver(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::open(namespace, interface, Some(SockProtocol::EthAll))
    }

    fn open(namespace: &Namespace, interface: &str, protocol: Option<SockProtocol>) -> Result<Self> {
        namespace.run(|| {
            let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
                .context("open a packet socket")?;
            // The only way to a link address in safe code: the interface's own.
            let link = getifaddrs()?
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {interface}"))?;
            bind(fd.as_raw_fd(), &link).with_context(|| format!("bind to {interface}"))?;
            let patience = TimeVal::seconds(PATIENCE.as_secs() as i64);
            setsockopt(&fd, sockopt::SendTimeout, &patience)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
            setsockopt(&fd, sockopt::RcvBufForce, &(32 << 20)).context("enlarge the receive buffer")?;
            // Until it was bound it has received from all interfaces.
            while recv(fd.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT).is_ok() {}
            Ok(Self { fd, interface: interface.to_owned() })
        })
    }

    /// Sends every frame, in order.
    ///
    /// # Errors
    /// When the device takes less than a whole frame, or refuses one.
    pub fn send<B: AsRef<[u8]>>(&self, frames: impl IntoIterator<Item = B>) -> Result<()> {
        for (number, frame) in frames.into_iter().enumerate() {
            let frame = frame.as_ref();
            let sent = loop {
                match send(self.fd.as_raw_fd(), frame, MsgFlags::empty()) {
                    // The device's queue is full for a moment; the send time-out bounds a real stop.
                    Err(Errno::EINTR) => {}
                    other => break other,
                }
            };
            let sent =
                sent.with_context(|| format!("send frame {number} ({} bytes) on {}", frame.len(), self.interface))?;
            ensure!(sent == frame.len(), "frame {number}: {sent} of {} bytes sent", frame.len());
        }
        Ok(())
    }

    /// Sends `count` copies of one frame.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_copies(&self, frame: &[u8], count: usize) -> Result<()> {
        self.send(std::iter::repeat_n(frame, count))
    }

    /// Sends `count` copies of one frame as fast as it can: many by one system call.
    ///
    /// # Errors
    /// When the device refuses one.
    pub fn flood(&self, frame: &[u8], count: usize) -> Result<()> {
        const BATCH: usize = 64;
        let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH, None);
        let mut left = count;
        while left > 0 {
            let batch = vec![[IoSlice::new(frame)]; left.min(BATCH)];
            let nowhere = vec![None; batch.len()];
            let sent = sendmmsg(self.fd.as_raw_fd(), &mut headers, &batch, nowhere, [], MsgFlags::empty());
            left -= sent.with_context(|| format!("flood {}", self.interface))?.count();
        }
        Ok(())
    }

    /// Sends one TCP frame as `segment_bytes` of payload per segment, to be cut by whoever is last: a GSO packet, as a
    /// virtual machine hands it to its tap (the kernel calls it untrusted and leaves `gso_segs` at zero). The TCP
    /// checksums of the segments are wrong, because the frame's own does not stand for the pseudo header alone.
    ///
    /// # Errors
    /// When the kernel refuses the header.
    pub fn send_gso(&self, frame: &[u8], gso: Gso) -> Result<()> {
        raw::use_virtio_headers(self.fd.as_fd())?;
        self.send([[&gso.header()[..], frame].concat()])
    }

    /// Receives one frame that satisfies `wanted`, ignoring others.
    ///
    /// # Errors
    /// When none has come in time.
    pub fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let mut buffer = vec![0; LONGEST];
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                Ok((length, from)) if !is_outgoing(from) && wanted(&buffer[..length]) => {
                    return Ok(buffer[..length].to_vec());
                }
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error).with_context(|| format!("receive on {}", self.interface)),
            }
        }
        bail!("no such frame on {} within {PATIENCE:?}", self.interface)
    }

    /// From now on every frame sent and received starts with a `virtio_net_hdr`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with_virtio_headers(self) -> Result<Self> {
        raw::use_virtio_headers(self.fd.as_fd())?;
        Ok(self)
    }

    /// From now on every frame received has its time, and the number of those that found no room.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with_times(self) -> Result<Self> {
        setsockopt(&self.fd, sockopt::ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
        setsockopt(&self.fd, sockopt::RxqOvfl, &1).context("SO_RXQ_OVFL")?;
        Ok(self)
    }

    /// A frame that is there already, on a socket [`Self::with_virtio_headers`].
    ///
    /// # Errors
    /// When the device is gone.
    pub fn receive_waiting(&self) -> Result<Option<Waiting>> {
        let mut bytes = vec![0; VIRTIO_HEADER + LONGEST];
        let mut control = nix::cmsg_space!(TimeSpec, u32);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<LinkAddr>(self.fd.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        let message = match message {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            other => other.with_context(|| format!("receive on {}", self.interface))?,
        };
        let (mut nanoseconds, mut missed) = (None, 0);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => nanoseconds = u64::try_from(time.num_nanoseconds()).ok(),
                ControlMessageOwned::RxqOvfl(frames) => missed = frames,
                _ => {}
            }
        }
        let (length, outgoing) = (message.bytes, is_outgoing(message.address));
        bytes.truncate(length);
        bytes.shrink_to_fit();
        ensure!(length >= VIRTIO_HEADER, "{length} bytes on {} are no frame", self.interface);
        Ok(Some(Waiting { nanoseconds, outgoing, missed, bytes }))
    }

    /// Receives until `count` frames that satisfy `wanted` have come, and returns the sum of their bytes.
    ///
    /// # Errors
    /// With the number so far, when one does not come in time.
    pub fn receive_bytes(&self, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Result<usize> {
        (0..count).try_fold(0, |sum, number| {
            let frame = self.receive(&wanted).with_context(|| format!("{number} of {count} frames"))?;
            Ok(sum + frame.len())
        })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Bytes of a `virtio_net_hdr` without the count of merged buffers.
const VIRTIO_HEADER: usize = 10;

/// A frame of [`PacketSocket::receive_waiting`].
pub struct Waiting {
    /// Since 1970; on sockets [`PacketSocket::with_times`].
    pub nanoseconds: Option<u64>,
    /// Whether the device sent it.
    pub outgoing: bool,
    /// Frames before it that found no room, since the socket was opened.
    pub missed: u32,
    /// The `virtio_net_hdr`, and behind it the frame.
    pub bytes: Vec<u8>,
}

impl Waiting {
    /// As it is in the kernel: the checksum may be missing.
    #[must_use]
    pub fn without_virtio_header(&self) -> &[u8] {
        &self.bytes[VIRTIO_HEADER..]
    }

    /// As it would be on the wire, if it were not to be cut.
    ///
    /// # Errors
    /// When the kernel's description of its checksum lies outside of it.
    pub fn completed(mut self) -> Result<Vec<u8>> {
        const NEEDS_CHECKSUM: u8 = 1;
        let field = |at: usize| usize::from(u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]));
        let (flags, from, offset) = (self.bytes[0], field(6), field(8));
        self.bytes.drain(..VIRTIO_HEADER);
        if flags & NEEDS_CHECKSUM != 0 {
            // The field holds the sum over the pseudo header.
            let summed = self.bytes.get(from..).context("a checksum behind the frame's end")?;
            let checksum = frames::fold(frames::sum(summed));
            let field = self.bytes.get_mut(from + offset..from + offset + 2).context("a checksum field likewise")?;
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        Ok(self.bytes)
    }
}

/// A socket for all protocols also sees what its own side sends.
fn is_outgoing(from: Option<LinkAddr>) -> bool {
    from.is_some_and(|link| link.pkttype() == libc::PACKET_OUTGOING)
}

/// How a GSO packet is to be cut: `linux/virtio_net.h`.
#[derive(Clone, Copy, Debug)]
pub struct Gso {
    /// Bytes of payload of each segment.
    pub segment_bytes: u16,
    /// Bytes of all headers, Ethernet included.
    pub header_bytes: u16,
    /// Where the transport header starts.
    pub transport_at: u16,
    /// Whether it is TCP over IPv6.
    pub version6: bool,
}

impl Gso {
    /// The `virtio_net_hdr` that asks for it.
    #[must_use]
    pub fn header(self) -> [u8; 10] {
        const NEEDS_CHECKSUM: u8 = 1;
        const TCP4: u8 = 1;
        const TCP6: u8 = 4;
        let kind = if self.version6 { TCP6 } else { TCP4 };
        let mut header = [NEEDS_CHECKSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        // The checksum field is 16 bytes into a TCP header.
        let fields = [self.header_bytes, self.segment_bytes, self.transport_at, 16];
        for (to, from) in header[2..].chunks_exact_mut(2).zip(fields) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        header
    }
}
