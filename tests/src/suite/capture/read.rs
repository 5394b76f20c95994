//! A second reader of pcapng (draft-ietf-opsawg-pcapng), of exactly what `lossprobe capture` writes: little-endian, frames in
//! enhanced packet blocks.

use anyhow::{Context as _, Result, bail, ensure};

/// A frame and what the file says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) interface: String,
    pub(super) link_type: u16,
    pub(super) nanoseconds: u64,
    pub(super) frame_bytes: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) comment: String,
    /// 1: it came in, 2: it went out.
    pub(super) flags: u32,
}

/// All frames of a file, which must end with a whole block.
pub(super) fn frames(mut file: &[u8]) -> Result<Vec<Frame>> {
    let (mut frames, mut interfaces) = (Vec::new(), Vec::new());
    ensure!(file.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "no section header at its beginning");
    while !file.is_empty() {
        let (kind, length) = (number(file, 0)?, number(file, 4)? as usize);
        let block = file.get(..length).context("it ends inside a block")?;
        ensure!(length.is_multiple_of(4) && number(block, length - 4)? as usize == length, "a block's lengths differ");
        match kind {
            0x0a0d_0d0a => {
                ensure!(options(block, 24)?.iter().any(|(code, value)| *code == 4 && value.starts_with(b"lossprobe ")));
                interfaces.clear();
            }
            1 => {
                let mut interface = Frame { link_type: number(block, 8)? as u16, ..Frame::default() };
                for (code, value) in options(block, 16)? {
                    match code {
                        2 => interface.interface = String::from_utf8(value)?,
                        9 => ensure!(value == [9], "times in 10^-{value:?} s"),
                        _ => bail!("option {code} of an interface"),
                    }
                }
                interfaces.push(interface);
            }
            6 => frames.push(frame(block, &interfaces)?),
            _ => bail!("a block of type {kind:#x}"),
        }
        file = &file[length..];
    }
    Ok(frames)
}

fn frame(block: &[u8], interfaces: &[Frame]) -> Result<Frame> {
    let interface = interfaces.get(number(block, 8)? as usize).context("an interface that was not described")?;
    let captured_bytes = number(block, 20)? as usize;
    let mut frame = Frame {
        nanoseconds: u64::from(number(block, 12)?) << 32 | u64::from(number(block, 16)?),
        bytes: block.get(28..28 + captured_bytes).context("fewer bytes than were captured")?.to_vec(),
        frame_bytes: number(block, 24)?,
        ..interface.clone()
    };
    for (code, value) in options(block, 28 + captured_bytes.next_multiple_of(4))? {
        match code {
            1 => frame.comment = String::from_utf8(value)?,
            2 => frame.flags = number(&value, 0)?,
            _ => bail!("option {code} of a frame"),
        }
    }
    Ok(frame)
}

fn options(block: &[u8], mut at: usize) -> Result<Vec<(u16, Vec<u8>)>> {
    let mut options = Vec::new();
    loop {
        let head = number(block, at)?;
        let (code, length) = (head as u16, (head >> 16) as usize);
        if code == 0 {
            ensure!(at + 8 == block.len(), "something follows the options");
            return Ok(options);
        }
        options.push((code, block.get(at + 4..at + 4 + length).context("an option is cut")?.to_vec()));
        at += 4 + length.next_multiple_of(4);
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).context("a number is cut")?;
    Ok(u32::from_le_bytes(*bytes))
}
