//! IP addresses and ranges. As upstream, what is new must be written unambiguously; forms that older
//! rules accepted (leading zeros, IPv4 in IPv6, bits beyond the prefix) may stay where they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::object;
use serde_json::Value;

use crate::at::{At, Errors};

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address and how many of its bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address as written, host bits included.
    pub ip: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl Address {
    fn bits(self) -> u128 {
        match self.ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => ip.into(),
        }
    }

    fn width(self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// Whether bits beyond the prefix are set.
    pub fn has_host_bits(self) -> bool {
        let free = self.width() - self.prefix;
        free > 0 && self.bits() & (u128::MAX >> (128 - u32::from(free))) != 0
    }

    /// Whether an address is in this network.
    pub fn contains(self, other: IpAddr) -> bool {
        let other = Self {
            ip: other,
            prefix: self.prefix,
        };
        if other.width() != self.width() {
            return false;
        }
        let free = u32::from(self.width() - self.prefix);
        self.bits().checked_shr(free).unwrap_or(0) == other.bits().checked_shr(free).unwrap_or(0)
    }

    /// Whether another network is inside this one and smaller.
    pub fn strictly_contains(self, other: Self) -> bool {
        self.contains(other.ip) && other.prefix > self.prefix
    }
}

/// An address. As upstream, numbers may have leading zeros, and `::ffff:1.2.3.4` is IPv4.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        let parts: Vec<u8> = text
            .split('.')
            .map(|part| {
                let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| part.parse().ok()).flatten()
            })
            .collect::<Option<_>>()?;
        let octets: [u8; 4] = parts.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// A network such as `10.0.0.0/8`.
pub fn parse_cidr(text: &str) -> Option<Address> {
    let (ip, prefix) = text.split_once('/')?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let address = Address {
        ip: parse_ip(ip)?,
        prefix: prefix.parse().ok()?,
    };
    (address.prefix <= address.width()).then_some(address)
}

/// Whether a text is an IPv6 address.
pub fn is_ipv6(text: &str) -> bool {
    parse_ip(text).is_some_and(|ip| ip.is_ipv6())
}

/// A string that must be an address, whether it is. What `known` lists was accepted by older rules
/// and may stay.
pub fn check_ip(at: &At<'_>, known: &[&str], errors: &mut Errors) -> bool {
    let text = at.text();
    if known.contains(&text) {
        return true;
    }
    let problem = match parse_ip(text) {
        None => Some(NOT_AN_IP),
        Some(_) if text.parse::<IpAddr>().is_err() => Some("must not have leading 0s"),
        Some(ip) if is_mapped(ip) => Some("must not be an IPv4-mapped IPv6 address"),
        Some(_) => None,
    };
    errors.extend(problem.map(|why| at.invalid_text(why)));
    problem.is_none()
}

/// As [`check_ip`] of what is new, and the address must be written in its one usual form; whether it
/// is.
pub fn check_canonical_ip(at: &At<'_>, errors: &mut Errors) -> bool {
    if !check_ip(at, &[], errors) {
        return false;
    }
    let canonical = parse_ip(at.text()).map_or_else(String::new, |ip| ip.to_string());
    let fine = canonical == at.text();
    if !fine {
        errors.push(at.invalid(format!("must be in canonical form ({canonical:?})")));
    }
    fine
}

/// As [`check_cidr`], and the network must be written in its one usual form.
pub fn check_canonical_cidr(at: &At<'_>, errors: &mut Errors) {
    let before = errors.len();
    check_cidr(at, &[], errors);
    if let Some(network) = parse_cidr(at.text()).filter(|_| errors.len() == before) {
        let canonical = format!("{}/{}", network.ip, network.prefix);
        if canonical != at.text() {
            errors.push(at.invalid(format!("must be in canonical form ({canonical:?})")));
        }
    }
}

/// A string that must be a network. What `known` lists was accepted by older rules and may stay.
pub fn check_cidr(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    let text = at.text();
    if known.contains(&text) {
        return;
    }
    let problem = match parse_cidr(text) {
        None => Some(NOT_A_CIDR),
        Some(_) if has_leading_zeros(text) => {
            Some("must not have leading 0s in IP or prefix length")
        }
        Some(network) if is_mapped(network.ip) => Some("must not have an IPv4-mapped IPv6 address"),
        Some(network) if network.has_host_bits() => {
            Some("must not have bits set beyond the prefix length")
        }
        Some(_) => None,
    };
    errors.extend(problem.map(|why| at.invalid_text(why)));
}

/// Whether an address is an IPv4 one in the clothes of an IPv6 one.
fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// Whether a network that can be read is written with zeros that mean octal to some.
fn has_leading_zeros(network: &str) -> bool {
    network.split_once('/').is_some_and(|(ip, prefix)| {
        ip.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0'))
    })
}

/// The addresses of the load balancers an object's status names.
pub fn balancer_ips(object: &Value) -> Vec<&str> {
    object::list(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|entry| object::text(entry, &["ip"]))
        .filter(|ip| !ip.is_empty())
        .collect()
}

/// An address that may stand for an endpoint: not unspecified, loopback or link-local.
pub fn check_non_special_ip(at: &At<'_>, errors: &mut Errors) {
    let Some(ip) = parse_ip(at.text()) else {
        errors.push(at.invalid_text("must be a valid IP address"));
        return;
    };
    if ip.is_unspecified() {
        errors.push(at.invalid(format!("may not be unspecified ({})", at.text())));
    }
    if ip.is_loopback() {
        errors.push(at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (
            ip.segments()[0] & 0xffc0 == 0xfe80,
            ip.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if link_local {
        errors.push(at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(at.invalid(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        let outer = parse_cidr("10.0.0.0/8").expect("a network");
        assert!(outer.strictly_contains(parse_cidr("10.1.0.0/16").expect("a network")));
        assert!(!outer.strictly_contains(outer));
        assert!(!outer.contains("11.0.0.1".parse().expect("an address")));
        assert!(
            parse_cidr("192.0.2.5/24")
                .expect("a network")
                .has_host_bits()
        );
        assert!(!parse_cidr("0.0.0.0/0").expect("a network").has_host_bits());
        assert!(
            parse_cidr("::/0")
                .expect("a network")
                .contains("::1".parse().expect("an address"))
        );
        assert_eq!(parse_cidr("1.2.3.4/33"), None);
        assert_eq!(parse_ip("010.0.0.1"), parse_ip("10.0.0.1"));
        assert_eq!(parse_ip("1.2.3"), None);
    }

    #[test]
    fn what_is_new_is_written_unambiguously() {
        let found = |check: &dyn Fn(&At<'_>, &mut Errors), text: &str| {
            let value = serde_json::json!(text);
            let mut errors = Vec::new();
            check(&At::root(&value), &mut errors);
            errors.iter().map(ToString::to_string).collect::<String>()
        };
        let ip = |at: &At<'_>, errors: &mut Errors| {
            check_ip(at, &["01.2.3.4"], errors);
        };
        assert_eq!(found(&ip, "1.2.3.4"), "");
        assert_eq!(found(&ip, "FE80:0::1"), "");
        assert_eq!(found(&ip, "01.2.3.4"), "", "it was there before");
        assert!(found(&ip, "1.2.3.04").contains("must not have leading 0s"));
        assert!(found(&ip, "::ffff:1.2.3.4").contains("IPv4-mapped"));
        assert!(found(&ip, "x").contains("must be a valid IP address"));
        let canonical = |at: &At<'_>, errors: &mut Errors| {
            check_canonical_ip(at, errors);
        };
        assert!(found(&canonical, "FE80:0::1").contains("canonical form (\"fe80::1\")"));
        let cidr = |at: &At<'_>, errors: &mut Errors| check_cidr(at, &["10.0.0.1/8"], errors);
        assert_eq!(found(&cidr, "10.0.0.0/8"), "");
        assert_eq!(found(&cidr, "10.0.0.1/8"), "", "it was there before");
        assert!(found(&cidr, "10.0.0.2/8").contains("bits set beyond the prefix"));
        assert!(found(&cidr, "10.0.0.0/08").contains("leading 0s in IP or prefix"));
        assert!(found(&cidr, "::ffff:1.2.3.0/120").contains("IPv4-mapped"));
    }
}
