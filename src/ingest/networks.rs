//! Networks whose `X-Forwarded-For` counts, and the peer that it names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use actix_web::http::header::HeaderMap;

/// A network as it is written, such as `10.0.0.0/8`; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No address, or a length that is no number or too large.
    #[error("it is not a network such as 10.0.0.0/8 or fd00::/8")]
    Unreadable,
    /// The address has bits beyond the length, so one of the two is wrong.
    #[error("the address lies within the network: the network itself is {0}")]
    Within(Network),
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Unreadable)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or(BadNetwork::Unreadable)?,
        };
        let network = Self { address: masked(address, bits), bits };
        if network.address == address { Ok(network) } else { Err(BadNetwork::Within(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()),
    }
}

/// Who sent a request that came from `peer`: the last address in `X-Forwarded-For` that is not a trusted proxy's, where
/// the peer is one. What stands before that may be invented. An entry that is no address ends the search: the last good
/// one counts.
pub(super) fn sender(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.holds(address));
    let mut sender = peer.to_canonical();
    if !is_trusted(sender) {
        return sender;
    }
    // Several lines are one list (RFC 9110, section 5.3). The head is bounded, and so is this.
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").map(|value| value.as_bytes()).collect();
    for entry in lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b',')) {
        let Some(address) = address(entry.trim_ascii()) else { break };
        sender = address;
        if !is_trusted(address) {
            break;
        }
    }
    sender
}

/// An address, which some proxies write with a port or in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            assert!(network(text).holds(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network(text).holds(outside.parse().unwrap()), "{text} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "10/8", "proxy.example", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork::Unreadable), "{bad}");
        }
        assert_eq!("10.1.0.0/8".parse::<Network>(), Err(BadNetwork::Within(network("10.0.0.0/8"))));
    }

    #[test]
    fn the_last_untrusted_address_is_the_sender() {
        let trusted = [network("127.0.0.0/8"), network("10.0.0.0/8"), network("::1")];
        for (peer, lines, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.2.3.4"], "198.51.100.1"),
            ("127.0.0.1", &["6.6.6.6", "198.51.100.1 ", "10.2.3.4"], "198.51.100.1"),
            ("127.0.0.1", &["10.0.0.7, 10.2.3.4"], "10.0.0.7"),
            ("127.0.0.1", &["6.6.6.6, junk, 10.2.3.4"], "10.2.3.4"),
            ("127.0.0.1", &["6.6.6.6,"], "127.0.0.1"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1:5123"], "198.51.100.1"),
            ("::1", &["[2001:db8::7]:443, [::1]"], "2001:db8::7"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(line));
            }
            let found = sender(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
        let headers = HeaderMap::new();
        assert_eq!(sender("127.0.0.1".parse().unwrap(), &headers, &[]), "127.0.0.1".parse::<IpAddr>().unwrap());
    }
}
