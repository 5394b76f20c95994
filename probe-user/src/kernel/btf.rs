//! Reads the running kernel's type information: member offsets, enum names, how many arguments a tracepoint has.
//!
//! Format: Documentation/bpf/btf.rst. Only what is asked here is decoded; every other kind is skipped by its size.
//! aya's own reader keeps members to itself.

use std::path::Path;

use thiserror::Error;

/// Where the kernel shows its own types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why type information cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The data ends early or contradicts itself.
    #[error("BTF is cut or corrupt at byte {0}")]
    Corrupt(usize),
    /// A kind that is newer than this reader.
    #[error("BTF type {id} is of kind {kind}, which this version does not know")]
    UnknownKind {
        /// Type id.
        id: u32,
        /// Number of the kind.
        kind: u32,
    },
}

const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MAGIC: u32 = 0xeb9f;
/// Modifiers and typedefs that are followed from one type to the one behind them.
const MAX_DEPTH: usize = 16;
/// Anonymous members that are looked into for one name: corrupt data can make a structure its own member, many times.
const MAX_ANONYMOUS: usize = 256;

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const POINTER: u32 = 2;
const FUNC_PROTO: u32 = 13;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Type information of one kernel, or of one of its modules.
#[derive(Debug)]
pub struct Btf<'base> {
    data: Vec<u8>,
    /// Byte offset of each type; id 0 is `void` and stands nowhere.
    types: Vec<u32>,
    strings: usize,
    string_bytes: usize,
    /// The kernel, if this is a module: its strings go on where the kernel's end.
    base: Option<&'base Btf<'base>>,
}

#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    kind_flag: bool,
    /// Size in bytes or the id of the type referred to, by kind.
    size_or_type: u32,
}

/// A member of a structure.
struct Member {
    /// Offset in bits.
    bits: u32,
    /// Of a bit field; 0 for everything else.
    width: u32,
    type_id: u32,
}

impl<'base> Btf<'base> {
    /// Reads and indexes a file such as [`VMLINUX`].
    ///
    /// # Errors
    /// If the file cannot be read or is not BTF.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let data = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(data).with_context(|| format!("parse {}", path.display()))
    }

    /// Indexes little-endian BTF.
    ///
    /// # Errors
    /// See [`BtfError`].
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        Self::index(data, None)
    }

    /// Indexes a module's BTF, of which only [`Self::enumerations`] can be asked: its types go on where the kernel's end.
    ///
    /// # Errors
    /// See [`BtfError`].
    pub fn parse_module(data: Vec<u8>, kernel: &'base Btf<'base>) -> Result<Self, BtfError> {
        Self::index(data, Some(kernel))
    }

    fn index(data: Vec<u8>, base: Option<&'base Btf<'base>>) -> Result<Self, BtfError> {
        let mut btf = Self { data, types: vec![0], strings: 0, string_bytes: 0, base };
        if btf.u32(0)? & 0xffff != MAGIC {
            return Err(BtfError::Corrupt(0));
        }
        let header_bytes = btf.u32(4)? as usize;
        let (type_at, type_bytes) = (btf.u32(8)? as usize, btf.u32(12)? as usize);
        let (string_at, string_bytes) = (btf.u32(16)? as usize, btf.u32(20)? as usize);
        btf.strings = header_bytes + string_at;
        btf.string_bytes = string_bytes;
        if header_bytes < HEADER_BYTES || btf.strings + string_bytes > btf.data.len() {
            return Err(BtfError::Corrupt(4));
        }
        let mut at = header_bytes + type_at;
        let end = at + type_bytes;
        while at < end {
            let found = btf.type_at(at)?;
            let id = btf.types.len() as u32;
            btf.types.push(at as u32);
            at += TYPE_BYTES + extra_bytes(found, id)?;
        }
        if at == end && end <= btf.data.len() { Ok(btf) } else { Err(BtfError::Corrupt(at)) }
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.data.get(at..).and_then(|rest| rest.first_chunk()).ok_or(BtfError::Corrupt(at))?;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let info = self.u32(at + 4)?;
        Ok(Type {
            at,
            name: self.u32(at)?,
            kind: (info >> 24) & 0x1f,
            members: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            size_or_type: self.u32(at + 8)?,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(id as usize).filter(|_| id != 0)?;
        self.type_at(at as usize).ok()
    }

    fn string(&self, at: u32) -> Option<&str> {
        let mut at = at as usize;
        if let Some(base) = self.base {
            match at.checked_sub(base.string_bytes) {
                Some(own) => at = own,
                None => return base.string(at as u32),
            }
        }
        let bytes = self.data.get(self.strings + at..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        str::from_utf8(&bytes[..end]).ok()
    }

    fn named<'a>(&'a self, name: &'a str, kinds: &'a [u32]) -> impl Iterator<Item = Type> + 'a {
        let all = self.types.iter().skip(1).filter_map(|at| self.type_at(*at as usize).ok());
        all.filter(move |found| kinds.contains(&found.kind) && self.string(found.name) == Some(name))
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut found = self.by_id(id)?;
        for _ in 0..MAX_DEPTH {
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => found = self.by_id(found.size_or_type)?,
                _ => return Some(found),
            }
        }
        None
    }

    /// Byte offset of a member from the start of a structure. `path` is `"member"` or `"member.member"`; members of
    /// anonymous structures and unions count as the outer one's. `None` if there is no such member, or it is a
    /// bit field.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        self.named(structure, &[STRUCT]).find_map(|outer| {
            let mut bits = 0;
            let mut current = outer;
            for name in path.split('.') {
                let member = self.member(current, name, &mut { MAX_ANONYMOUS })?;
                bits = member.bits.checked_add(bits)?;
                current = self.resolve(member.type_id).filter(|_| member.width == 0)?;
            }
            (bits % 8 == 0).then_some(bits / 8)
        })
    }

    /// Where a bit field is that lies inside one byte: the byte's offset from the start of the structure, and how far the
    /// field is shifted in it. Members of anonymous structures count as in [`Self::offset`].
    #[must_use]
    pub fn bit_field(&self, structure: &str, name: &str) -> Option<(u32, u32)> {
        self.named(structure, &[STRUCT]).find_map(|outer| {
            let Member { bits, width, .. } = self.member(outer, name, &mut { MAX_ANONYMOUS })?;
            (width != 0 && bits % 8 + width <= 8).then_some((bits / 8, bits % 8))
        })
    }

    /// Looks a member up; `anonymous` is how many anonymous members may still be looked into.
    fn member(&self, outer: Type, name: &str, anonymous: &mut usize) -> Option<Member> {
        if !matches!(outer.kind, STRUCT | UNION) {
            return None;
        }
        for position in 0..outer.members {
            let at = outer.at + TYPE_BYTES + position * 12;
            let (member_name, member_type) = (self.u32(at).ok()?, self.u32(at + 4).ok()?);
            let offset = self.u32(at + 8).ok()?;
            // With the kind flag, the upper 8 bits are the width of a bit field.
            let bits = if outer.kind_flag { offset & 0x00ff_ffff } else { offset };
            let width = if outer.kind_flag { offset >> 24 } else { 0 };
            match self.string(member_name)? {
                "" => {
                    *anonymous = anonymous.checked_sub(1)?;
                    let inner = self.resolve(member_type)?;
                    if let Some(found) = self.member(inner, name, anonymous) {
                        return Some(Member { bits: bits.checked_add(found.bits)?, ..found });
                    }
                }
                found if found == name => return Some(Member { bits, width, type_id: member_type }),
                _ => {}
            }
        }
        None
    }

    /// Names and values of an enumeration, in the kernel's order; empty if there is none of this name.
    #[must_use]
    pub fn enumeration(&self, name: &str) -> Vec<(String, u64)> {
        self.enumerations(|found| found == name).next().unwrap_or_default()
    }

    /// The enumerations of such names, as in [`Self::enumeration`].
    pub fn enumerations(&self, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Vec<(String, u64)>> {
        let all = self.types.iter().skip(1).filter_map(|at| self.type_at(*at as usize).ok());
        let wanted = all.filter(move |found| {
            matches!(found.kind, ENUM | ENUM64) && found.members > 0 && self.string(found.name).is_some_and(&is_wanted)
        });
        wanted.map(|found| {
            let stride = if found.kind == ENUM64 { 12 } else { 8 };
            let value = |position: usize| {
                let at = found.at + TYPE_BYTES + position * stride;
                let low = u64::from(self.u32(at + 4).ok()?);
                let high = if found.kind == ENUM64 { u64::from(self.u32(at + 8).ok()?) } else { 0 };
                Some((self.string(self.u32(at).ok()?)?.to_owned(), high << 32 | low))
            };
            (0..found.members).filter_map(value).collect()
        })
    }

    /// How many arguments a tracepoint hands to its programs, `None` if the kernel has no such tracepoint.
    #[must_use]
    pub fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let name = format!("btf_trace_{tracepoint}");
        self.named(&name, &[TYPEDEF]).find_map(|typedef| {
            let pointer = self.resolve(typedef.size_or_type).filter(|found| found.kind == POINTER)?;
            let function = self.resolve(pointer.size_or_type).filter(|found| found.kind == FUNC_PROTO)?;
            // The first parameter is the tracepoint's own data.
            function.members.checked_sub(1)
        })
    }
}

/// Bytes that follow a type's fixed part.
fn extra_bytes(found: Type, id: u32) -> Result<usize, BtfError> {
    Ok(match found.kind {
        1 | 14 | 17 => 4,
        3 => 12,
        STRUCT | UNION | 15 | ENUM64 => found.members * 12,
        ENUM | FUNC_PROTO => found.members * 8,
        POINTER | 7..=12 | 16 | TYPE_TAG => 0,
        kind => return Err(BtfError::UnknownKind { id, kind }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Btf<'static> {
        Btf::from_file(Path::new(VMLINUX)).unwrap()
    }

    #[test]
    fn reads_the_running_kernel() {
        let btf = running();
        assert_eq!(btf.offset("list_head", "prev"), Some(8));
        assert!(btf.offset("sk_buff", "dev").is_some_and(|offset| offset % 8 == 0));
        assert!(btf.offset("sock", "__sk_common.skc_net.net").is_some());
        assert_eq!(btf.offset("sk_buff", "no_such_member"), None);
        assert_eq!(btf.offset("sk_buff", "cloned"), None, "a bit field");
        // Two neighbours of one byte: `cloned:1; nohdr:1`.
        let (byte, shift) = btf.bit_field("sk_buff", "cloned").unwrap();
        assert_eq!(btf.bit_field("sk_buff", "nohdr"), Some((byte, shift + 1)));
        assert_eq!(btf.bit_field("sk_buff", "dev"), None, "no bit field");
        assert_eq!(btf.enumeration("no_such_enum"), []);
        assert_eq!(btf.tracepoint_arguments("netif_receive_skb"), Some(1));
        assert_eq!(btf.tracepoint_arguments("no_such_tracepoint"), None);
    }

    /// Three anonymous members of its own type: followed without a bound, more paths than a test could ever take.
    #[test]
    fn a_structure_inside_itself_is_left() {
        let data = include_bytes!("../../../tests/fuzz/seeds/btf/contains_itself");
        assert_eq!(Btf::parse(data.to_vec()).unwrap().offset("s", "m"), None);
    }

    #[test]
    fn refuses_what_is_cut() {
        let whole = running().data;
        for bytes in [0, 3, HEADER_BYTES - 1, HEADER_BYTES, 4096] {
            assert!(matches!(Btf::parse(whole[..bytes].to_vec()), Err(BtfError::Corrupt(_))), "{bytes} bytes");
        }
    }
}
