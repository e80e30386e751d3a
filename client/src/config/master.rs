//! Where the master is, as `master` in `client.toml` says it.

use engine::config::as_if_with_port;
use engine::node::MasterAddr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

/// Why a text names no master.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    /// It is neither a name nor an address.
    #[error(
        "{0:?} is no host name and no address with a port from 1 to 65535; write \"NAME\", \"NAME:PORT\" or \"ADDRESS:PORT\""
    )]
    Form(String),
    /// An address that can be read in two ways.
    #[error("is {text:?} an address, or one with a port? write \"[{text}]\" or \"[{ip}]:{port}\"")]
    Ambiguous {
        /// What is written.
        text: String,
        /// With the port taken off.
        ip: Ipv6Addr,
        /// The port.
        port: NonZeroU16,
    },
}

/// Reads one; `port` is for those that name none.
pub(super) fn master_addr(text: &str, port: u16) -> Result<MasterAddr, MasterError> {
    let bad = || MasterError::Form(text.to_owned());
    let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(ip) = in_brackets {
        let ip: Ipv6Addr = ip.parse().map_err(|_| bad())?;
        return Ok(MasterAddr::Fixed((ip, port).into()));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return match as_if_with_port(text) {
            Some((ip, port)) => Err(MasterError::Ambiguous { text: text.to_owned(), ip, port }),
            None => Ok(MasterAddr::Fixed(SocketAddr::new(ip, port))),
        };
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return if addr.port() == 0 { Err(bad()) } else { Ok(MasterAddr::Fixed(addr)) };
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<NonZeroU16>().map_err(|_| bad())?.get()),
        None => (text, port),
    };
    Ok(MasterAddr::Name(name.parse().map_err(|_| bad())?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_a_name_or_an_address_and_port_0_is_none() {
        let fixed = |text: &str| MasterAddr::Fixed(text.parse().unwrap());
        let named = |port| MasterAddr::Name("m.test".parse().unwrap(), port);
        for (text, found) in [
            ("192.0.2.1", fixed("192.0.2.1:7400")),
            ("192.0.2.1:9", fixed("192.0.2.1:9")),
            ("::1", fixed("[::1]:7400")),
            ("[::1]:9", fixed("[::1]:9")),
            ("[::1]", fixed("[::1]:7400")),
            ("[::1:7400]", fixed("[::1:7400]:7400")),
            ("fe80::1:2", fixed("[fe80::1:2]:7400")),
            ("m.test", named(7400)),
            ("m.test:65535", named(65_535)),
        ] {
            assert_eq!(master_addr(text, 7400).unwrap(), found, "{text}");
        }
        let told = master_addr("::1:7400", 7400).unwrap_err().to_string();
        assert!(told.ends_with(r#"write "[::1:7400]" or "[::1]:7400""#), "{told}");
        for text in [
            "m.test:0",
            "[::1",
            "[m.test]",
            "192.0.2.1:0",
            "[::1]:0",
            "m.test:65536",
            "m test",
            "",
            ":7400",
        ] {
            let told = master_addr(text, 7400).unwrap_err().to_string();
            assert!(told.contains("1 to 65535") && told.contains("NAME:PORT"), "{told}");
        }
    }
}
