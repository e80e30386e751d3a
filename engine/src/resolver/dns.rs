//! The little of DNS (RFC 1035, 3596) that asking for addresses needs.

use crate::ids::HostName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const HEADER_SIZE: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
/// Compression pointers followed within one name. Each must point backwards, so that there is
/// no loop; this bounds the work as well.
const POINTERS_MAX: usize = 32;
const FLAG_RESPONSE: u16 = 1 << 15;
const FLAG_TRUNCATED: u16 = 1 << 9;
const FLAG_RECURSION_DESIRED: u16 = 1 << 8;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn record_type(self) -> u16 {
        match self {
            Family::V4 => 1,
            Family::V6 => 28,
        }
    }
}

/// Why bytes are not an answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DnsError {
    #[error("the message is cut short or malformed")]
    Malformed,
    #[error("it answers another question")]
    Unasked,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Response {
    /// Addresses, none where the name has none of this family.
    Addrs {
        addrs: Vec<IpAddr>,
        ttl: Duration,
    },
    NoSuchName,
    /// It did not fit into a datagram: ask over TCP.
    Truncated,
    /// The server failed or refuses, with this code.
    Failed(u8),
}

/// Whether DNS can have such a name: no label is longer than 63 bytes.
pub(super) fn is_askable(name: &HostName) -> bool {
    name.as_str().split('.').all(|label| label.len() <= 63)
}

/// A name as it stands in a message: labels, lower case.
fn push_name(out: &mut Vec<u8>, name: &HostName) {
    for label in name.as_str().split('.') {
        out.push(u8::try_from(label.len()).expect("a label is shorter than its name's 253 bytes"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}

/// A question about a name that [`is_askable`].
pub(super) fn question(id: u16, name: &HostName, family: Family) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + name.as_str().len() + 6);
    for word in [id, FLAG_RECURSION_DESIRED, 1, 0, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    push_name(&mut out, name);
    out.extend_from_slice(&family.record_type().to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out
}

/// A cursor over a message.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DnsError> {
        let end = self.at.checked_add(n).ok_or(DnsError::Malformed)?;
        let bytes = self.message.get(self.at..end).ok_or(DnsError::Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, DnsError> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Result<u32, DnsError> {
        self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A name as dotted lower-case bytes.
    fn name(&mut self) -> Result<Vec<u8>, DnsError> {
        let mut name = Vec::new();
        let mut at = Reader { message: self.message, at: self.at };
        let mut pointers = 0;
        loop {
            let start = at.at;
            let len = at.take(1)?[0];
            match len >> 6 {
                0 if len == 0 => break,
                0 => {
                    let label = at.take(usize::from(len))?;
                    if !name.is_empty() {
                        name.push(b'.');
                    }
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                    if name.len() > 255 {
                        return Err(DnsError::Malformed);
                    }
                }
                0b11 => {
                    let low = at.take(1)?[0];
                    let target = usize::from(len & 0x3f) << 8 | usize::from(low);
                    pointers += 1;
                    if target >= start || pointers > POINTERS_MAX {
                        return Err(DnsError::Malformed);
                    }
                    if pointers == 1 {
                        self.at = at.at;
                    }
                    at.at = target;
                }
                _ => return Err(DnsError::Malformed),
            }
        }
        if pointers == 0 {
            self.at = at.at;
        }
        Ok(name)
    }
}

/// The question in a message: id, flags, name, type.
fn read_question(reader: &mut Reader<'_>) -> Result<(u16, u16, u16, Vec<u8>, u16), DnsError> {
    let (id, flags, questions, answers) =
        (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
    reader.take(4)?;
    if questions != 1 {
        return Err(DnsError::Malformed);
    }
    let name = reader.name()?;
    let record_type = reader.u16()?;
    reader.u16()?;
    Ok((id, flags, answers, name, record_type))
}

/// Reads the answer to the question with this id, name and family.
pub(super) fn response(
    message: &[u8],
    id: u16,
    name: &HostName,
    family: Family,
) -> Result<Response, DnsError> {
    let mut reader = Reader { message, at: 0 };
    let (found_id, flags, answers, found_name, record_type) = read_question(&mut reader)?;
    if found_id != id
        || flags & FLAG_RESPONSE == 0
        || found_name != name.as_str().as_bytes()
        || record_type != family.record_type()
    {
        return Err(DnsError::Unasked);
    }
    if flags & FLAG_TRUNCATED != 0 {
        return Ok(Response::Truncated);
    }
    match flags & 0xf {
        0 => {}
        3 => return Ok(Response::NoSuchName),
        code => return Ok(Response::Failed(code as u8)),
    }
    // An alias stands before what it stands for, as every server sends it.
    let mut owner = found_name;
    let mut addrs = Vec::new();
    let mut ttl = u32::MAX;
    for _ in 0..answers {
        let record_name = reader.name()?;
        let (record_type, _class) = (reader.u16()?, reader.u16()?);
        let record_ttl = reader.u32()?;
        let len = usize::from(reader.u16()?);
        let mut data = Reader { message, at: reader.at };
        let bytes = reader.take(len)?;
        if record_name != owner {
            continue;
        }
        let ip: IpAddr = if record_type == TYPE_CNAME {
            ttl = ttl.min(record_ttl);
            owner = data.name()?;
            continue;
        } else if record_type != family.record_type() {
            continue;
        } else if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            Ipv4Addr::from(v4).into()
        } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            Ipv6Addr::from(v6).into()
        } else {
            return Err(DnsError::Malformed);
        };
        ttl = ttl.min(record_ttl);
        addrs.push(ip);
    }
    let ttl = Duration::from_secs(if addrs.is_empty() { 0 } else { u64::from(ttl) });
    Ok(Response::Addrs { addrs, ttl })
}

/// Reads a question, as a server does: id, name and record type.
pub(super) fn asked(message: &[u8]) -> Result<(u16, HostName, u16), DnsError> {
    let mut reader = Reader { message, at: 0 };
    let (id, _, _, name, record_type) = read_question(&mut reader)?;
    Ok((id, HostName::parse(&name).map_err(|_| DnsError::Malformed)?, record_type))
}

/// Writes an answer, as a server does. `None` means that there is no such name.
pub(super) fn answer(
    (id, name, record_type): &(u16, HostName, u16),
    addrs: Option<&[IpAddr]>,
    ttl_s: u32,
    truncated: bool,
) -> Vec<u8> {
    let of_type = |ip: &&IpAddr| match ip {
        IpAddr::V4(_) => *record_type == Family::V4.record_type(),
        IpAddr::V6(_) => *record_type == Family::V6.record_type(),
    };
    let found: Vec<&IpAddr> = addrs.unwrap_or_default().iter().filter(of_type).collect();
    let found = if truncated { Vec::new() } else { found };
    let code = if addrs.is_some() { 0 } else { 3 };
    let recursion = FLAG_RECURSION_DESIRED | 1 << 7;
    let flags = FLAG_RESPONSE | recursion | code | if truncated { FLAG_TRUNCATED } else { 0 };
    let count = u16::try_from(found.len()).unwrap_or(u16::MAX);
    let mut out = Vec::new();
    for word in [*id, flags, 1, count, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    push_name(&mut out, name);
    out.extend_from_slice(&record_type.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    for ip in found.into_iter().take(usize::from(count)) {
        // The name is the one in the question.
        out.extend_from_slice(&(0xc000 | HEADER_SIZE as u16).to_be_bytes());
        out.extend_from_slice(&record_type.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&ttl_s.to_be_bytes());
        let bytes: &[u8] = match ip {
            IpAddr::V4(ip) => &ip.octets(),
            IpAddr::V6(ip) => &ip.octets(),
        };
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

#[cfg(test)]
mod tests;
