//! Addresses and ranges that are accepted for old clients' sake, but written in a way others read
//! differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::at::At;

/// Reads an address as old clients wrote it: numbers may begin with zeros.
fn sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let parts: Vec<&str> = text.split('.').collect();
    let [a, b, c, d] = parts.as_slice() else {
        return None;
    };
    let number = |part: &str| part.parse::<u8>().ok();
    Some(Ipv4Addr::new(number(a)?, number(b)?, number(c)?, number(d)?).into())
}

/// An IPv4 address that is written as an IPv6 one is the IPv4 one.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => address
            .to_ipv4_mapped()
            .map_or(IpAddr::V6(address), IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn is_mapped(address: IpAddr) -> bool {
    plain(address) != address
}

/// An address.
pub fn check_ip(at: &At<'_>, found: &mut Vec<String>) {
    let text = at.text();
    let Some(address) = sloppy(text) else { return };
    let is_standard = text.parse::<IpAddr>().is_ok() && !is_mapped(address);
    if !is_standard {
        found.push(format!(
            "{}: non-standard IP address {text:?} is invalid: use \"{}\"",
            at.path(),
            plain(address)
        ));
    } else if address.is_ipv6() && address.to_string() != text {
        found.push(format!(
            "{}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")",
            at.path()
        ));
    }
}

/// The first address of the range.
fn network(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

/// A range of addresses.
pub fn check_range(at: &At<'_>, found: &mut Vec<String>) {
    let text = at.text();
    let Some((address, length_text)) = text.split_once('/') else {
        return;
    };
    let (Some(address), Ok(length)) = (sloppy(address), length_text.parse::<u32>()) else {
        return;
    };
    let mapped = is_mapped(address);
    let all = if address.is_ipv4() { 32 } else { 128 };
    if length > all || (mapped && length < 96) {
        return;
    }
    let (address, length) = if mapped {
        (plain(address), length - 96)
    } else {
        (address, length)
    };
    let all = if address.is_ipv4() { 32 } else { 128 };
    let first = network(address, length);
    let before = found.len();
    if first != address {
        found.push(format!(
            "{}: CIDR value {text:?} is ambiguous in this context (should be \"{first}/{length}\" or \"{address}/{all}\"?)",
            at.path()
        ));
    }
    let is_standard = text
        .split_once('/')
        .is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok())
        && (length_text == "0" || !length_text.starts_with('0'))
        && !mapped;
    if !is_standard {
        found.push(format!(
            "{}: non-standard CIDR value {text:?} is invalid: use \"{first}/{length}\"",
            at.path()
        ));
    }
    let canonical = format!("{address}/{length}");
    if found.len() == before && address.is_ipv6() && canonical != text {
        found.push(format!(
            "{}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})",
            at.path()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FieldPath;
    use serde_json::json;

    #[test]
    fn addresses_should_be_in_their_usual_form() {
        let warn = |check: fn(&At<'_>, &mut Vec<String>), text: &str| {
            let value = json!(text);
            let mut found = Vec::new();
            check(&At::new(&value, FieldPath::new("f")), &mut found);
            found.join("|")
        };
        assert_eq!(warn(check_ip, "10.0.0.1"), "");
        assert!(warn(check_ip, "::ffff:1.2.3.4").ends_with("use \"1.2.3.4\""));
        assert!(
            warn(check_ip, "2001:DB8::1").contains("RFC 5952 canonical format (\"2001:db8::1\")")
        );
        assert_eq!(warn(check_range, "10.0.0.0/8"), "");
        assert!(
            warn(check_range, "10.0.0.1/8")
                .contains("should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?")
        );
        assert!(warn(check_range, "10.0.0.0/08").contains("non-standard CIDR value"));
        assert_eq!(warn(check_range, "nonsense"), "");
    }
}
