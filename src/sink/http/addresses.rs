//! Which addresses are not public. With `allow_private = false` no connection is made to any of them: neither where
//! the URL names one, nor where a name resolves to one at the moment of connecting, whatever it resolved to before.
//!
//! The tables follow IANA's registries of special-purpose addresses (RFC 6890 and its successors). Where a registry
//! calls a sliver of a range globally reachable (anycast relays, AS112), the whole range is refused all the same:
//! no endpoint lives there. A NAT64 prefix of one's own network (RFC 6052, 2.2) looks like any public address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// First address, length of the prefix, and what it is.
const V4: [(Ipv4Addr, u32, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network, RFC 791"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private, RFC 1918"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT, RFC 6598"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback, RFC 1122"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local, RFC 3927"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private, RFC 1918"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments, RFC 6890"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relays, RFC 7526"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private, RFC 1918"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking, RFC 2544"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast, RFC 5771"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast, RFC 919"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved, RFC 1112"),
];

/// Everything outside 2000::/3 is refused without being here: these only have a better name. The first that fits counts.
const V6: [(Ipv6Addr, u32, &str); 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified, RFC 4291"),
    (Ipv6Addr::LOCALHOST, 128, "loopback, RFC 4291"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible, RFC 4291"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64, RFC 8215"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard-only, RFC 6666"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments, RFC 2928"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation, RFC 3849"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation, RFC 9637"),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, "segment routing, RFC 9602"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique local, RFC 4193"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local, RFC 4291"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local, RFC 3879"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast, RFC 4291"),
];

/// What kind of address it is, when it is not a public one.
fn kind(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => kind_of_v4(ip),
        IpAddr::V6(ip) => kind_of_v6(ip),
    }
}

fn kind_of_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let within = |first: Ipv4Addr, prefix: u32| (ip.to_bits() ^ first.to_bits()) >> (32 - prefix) == 0;
    V4.iter().find(|(first, prefix, _)| within(*first, *prefix)).map(|(_, _, kind)| *kind)
}

fn kind_of_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let segments = ip.segments();
    let v4 = |at: usize| Ipv4Addr::from_bits(u32::from(segments[at]) << 16 | u32::from(segments[at + 1]));
    match segments {
        // IPv4-mapped (RFC 4291, 2.5.5.2) and the well-known prefix of NAT64 (RFC 6052) lead to the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => return kind_of_v4(v4(6)),
        // 6to4: RFC 3056.
        [0x2002, ..] => return kind_of_v4(v4(1)),
        // Teredo: the server, and the client with every bit turned over. RFC 4380, 4.
        [0x2001, 0, ..] => return kind_of_v4(v4(2)).or_else(|| kind_of_v4(!v4(6))),
        _ => {}
    }
    let within = |first: Ipv6Addr, prefix: u32| (ip.to_bits() ^ first.to_bits()) >> (128 - prefix) == 0;
    let named = V6.iter().find(|(first, prefix, _)| within(*first, *prefix)).map(|(_, _, kind)| *kind);
    let is_global = within(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    named.or_else(|| (!is_global).then_some("not global unicast, RFC 4291"))
}

/// An address that `allow_private = false` forbids to connect to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is not public ({kind}), and sinks.http.allow_private = false refuses it: give the url a public \
     address, or set allow_private = true"
)]
pub struct Refused {
    address: IpAddr,
    kind: &'static str,
}

impl Refused {
    fn of(address: IpAddr) -> Option<Self> {
        kind(address).map(|kind| Self { address, kind })
    }

    /// For a URL whose host is an address: no resolver ever sees it. Whatever way it was written in (decimal, hex, octal,
    /// with fewer parts), a parsed URL holds the address itself.
    pub fn by_url(url: &Url) -> Option<Self> {
        // The brackets around an IPv6 address belong to the URL.
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        Self::of(host.parse().ok()?)
    }
}

/// A resolver that gives public addresses only. Its answer is what is connected to: between the look at an address and
/// the connection there is no second look-up that could say something else.
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts in the port.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(public(found)?.into_iter()) as Addrs)
        })
    }
}

/// Those that are public; an error when there are only others.
fn public(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = None;
    let public: Vec<SocketAddr> = found
        .filter(|address| match Refused::of(address.ip()) {
            Some(why) => {
                refused.get_or_insert(why);
                false
            }
            None => true,
        })
        .collect();
    match refused {
        Some(refused) if public.is_empty() => Err(refused),
        _ => Ok(public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    /// First and last of each range, and the forms that lead to one.
    const PRIVATE: [&str; 74] = [
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0.0.0.0",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:169.254.169.254",
        "::ffff:192.168.1.1",
        "::ffff:255.255.255.255",
        // IPv4-translated (RFC 2765) is mapped with a slip of the finger.
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:0:0:1::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:ffff::1",
        "100::1",
        "2001::1",
        // Teredo: a private server; a public server with a private client.
        "2001:0:a00:1::",
        "2001:0:808:808::80ff:fffe",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "2002:a00:1::1",
        "2002:7f00:1::1",
        "2002:c0a8:101::",
        "2002:ac10::1",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe00::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    /// The neighbours of the ranges, and public addresses inside others.
    const PUBLIC: [&str; 37] = [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2000::1",
        "2001:0:808:808::f7f7:f7f7",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "3ffe::1",
        "3fff:1000::1",
        "2a00:1450:4001:81b::200e",
    ];

    #[test]
    fn private_addresses_in_all_their_forms_are_told_from_public_ones() {
        for text in PRIVATE {
            assert!(kind(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in PUBLIC {
            assert_eq!(kind(text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn addresses_in_urls_are_seen_however_they_are_spelt() {
        let loopback = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1:8080/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://0x7F.0x0.0x0.0x1/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://user:word@127.0.0.1:80/",
        ];
        for url in loopback {
            let refused = Refused::by_url(&url.parse().unwrap());
            assert_eq!(refused, Refused::of(Ipv4Addr::LOCALHOST.into()), "{url}");
        }
        for host in PRIVATE.iter().map(|ip| if ip.contains(':') { format!("[{ip}]") } else { (*ip).to_owned() }) {
            assert!(Refused::by_url(&format!("https://{host}:8443/x").parse().unwrap()).is_some(), "{host}");
        }
        for url in ["http://0/", "http://0x0/", "http://[::FFFF:7f00:0001]/", "http://[0:0:0:0:0:0:0:1]/"] {
            assert!(Refused::by_url(&url.parse().unwrap()).is_some(), "{url}");
        }
        for url in ["http://8.8.8.8/", "http://[2606:4700:4700::1111]/", "http://localhost/", "http://example.com/"] {
            assert_eq!(Refused::by_url(&url.parse().unwrap()), None, "{url}");
        }
    }

    #[test]
    fn of_a_names_addresses_the_public_ones_are_left() {
        let found = |list: &[&str]| {
            let list: Vec<SocketAddr> = list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            public(list.into_iter()).map(|left| left.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(found(&["10.0.0.1", "8.8.8.8", "::1", "2606::1"]), Ok(vec!["8.8.8.8".into(), "2606::1".into()]));
        assert_eq!(found(&["::1", "127.0.0.1"]), Err(Refused::of(Ipv6Addr::LOCALHOST.into()).unwrap()));
        assert_eq!(found(&[]), Ok(Vec::new()));
    }

    #[tokio::test]
    async fn the_name_of_this_machine_is_refused() {
        let error = PublicOnly.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.is::<Refused>(), "{error}");
    }

    #[test]
    fn a_refusal_fits_into_a_reason() {
        for text in PRIVATE {
            let text = Refused::of(text.parse().unwrap()).unwrap().to_string();
            assert_eq!(Reason::new(&text).as_str(), text);
        }
    }
}
