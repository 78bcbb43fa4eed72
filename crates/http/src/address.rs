//! Where a call may go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;
use url::Host;

use crate::InvalidUrl;

/// Where a service is, as its operator configured it: `http` or `https`, host, port and maybe a
/// path; no user, no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl FromStr for BaseUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail("the scheme must be http or https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(fail("`?` and `#` do not belong into it"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl BaseUrl {
    /// The address of a resource below this one; each part is escaped, so that none can climb.
    pub(crate) fn below(&self, parts: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Whether what is sent there cannot be read on the way: https, or this very machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        is_private(&self.0)
    }
}

/// A whole address that the operator configured and that is a secret itself, such as an incoming
/// webhook: messages name its host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl FromStr for SecretUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail("the scheme must be http or https"));
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({})", origin(&self.0))
    }
}

impl SecretUrl {
    /// Whether what is sent there cannot be read on the way: https, or this very machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        is_private(&self.0)
    }

    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }
}

/// Scheme, host and port.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_private(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    loopback || url.scheme() == "https"
}

/// An address that comes from data: https, no user, and no private, local or metadata host. A name is
/// judged again by the addresses that it leads to, when the connection is made.
#[derive(Clone, PartialEq, Eq)]
pub struct DataUrl(Url);

impl FromStr for DataUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = parse(text)?;
        if url.scheme() != "https" {
            return Err(fail("an address that comes from data must be https"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        if literal.is_some_and(|ip| !is_public(ip)) {
            return Err(fail("an address that comes from data may not be private or local"));
        }
        Ok(Self(url))
    }
}

impl fmt::Debug for DataUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query of a signed address is as good as a password.
        write!(f, "DataUrl({})", self.0.host_str().unwrap_or_default())
    }
}

impl DataUrl {
    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }
}

fn parse(text: &str) -> Result<Url, InvalidUrl> {
    let url = Url::parse(text).map_err(|error| fail(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fail("user and password do not belong into an address"));
    }
    Ok(url)
}

fn fail(problem: &str) -> InvalidUrl {
    InvalidUrl { problem: problem.to_owned() }
}

/// Whether an address belongs to the public internet: not this machine, not a private or shared
/// network, not a link (where clouds keep their metadata), not one for documentation, tests,
/// multicast or the future (the special-purpose registries of RFC 6890), nor any of these inside
/// an IPv6 address.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => embedded_v4(ip).map_or_else(|| is_public_v6(ip), is_public_v4),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

/// Only the global unicast addresses, without those for documentation, tunnels and tests.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let global_unicast = first & 0xe000 == 0x2000;
    let special = match first {
        0x2001 => second < 0x0200 || second == 0x0db8,
        0x3fff => second < 0x1000,
        _ => false,
    };
    global_unicast && !special
}

/// The IPv4 address inside of a mapped, translated (NAT64) or tunnelled (6to4) one.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, _, e, _, g, h] = ip.segments();
    let joined = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return Some(mapped);
    }
    match (a, b, c, e) {
        (0x2002, ..) => Some(joined(b, c)),
        (0x64, 0xff9b, 0, 0) => Some(joined(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_told_from_public_ones() {
        for (ip, expected) in [
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("172.32.0.1", true),
            ("2606:4700::1111", true),
            ("64:ff9b::808:808", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("192.0.0.192", false),
            ("198.18.0.1", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::a9fe:a9fe", false),
            ("2002:7f00:1::", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001::1", false),
        ] {
            assert_eq!(is_public(ip.parse().expect(ip)), expected, "{ip}");
        }
    }

    #[test]
    fn addresses_from_data_are_public_and_https() {
        for text in ["https://example.org/a?sig=s", "https://8.8.8.8/"] {
            assert!(text.parse::<DataUrl>().is_ok(), "{text}");
        }
        for text in [
            "http://example.org/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://user:hunter2@example.org/",
            "file:///etc/passwd",
        ] {
            let error = text.parse::<DataUrl>().expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", "https://example.org/a?sig=hunter2".parse::<DataUrl>());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn plain_http_is_private_on_this_machine_alone() {
        for (text, expected) in [
            ("https://models.internal", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://localhost.evil.example", false),
            ("http://10.0.0.1", false),
            ("http://models.internal", false),
        ] {
            assert_eq!(text.parse::<BaseUrl>().expect(text).is_private(), expected, "{text}");
        }
    }
}
