//! Ranges of addresses. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A family of addresses, as Services name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl Family {
    /// As Services name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A range of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The family.
    pub family: Family,
    first: u128,
    /// How many addresses, with the network's own and, in IPv4, the last one, which nobody gets.
    size: u128,
}

impl Range {
    /// Reads one range, or two of different families with a comma between them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let ranges: Vec<Self> = text
            .split(',')
            .map(|part| Self::parse(part.trim()))
            .collect::<Result<_, _>>()?;
        match ranges.as_slice() {
            [_] => Ok(ranges),
            [one, two] if one.family != two.family => Ok(ranges),
            _ => Err(format!(
                "service range {text:?}: name one range, or two of different families"
            )),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("service range {text:?} is no range such as 10.96.0.0/16 or fd00:10:96::/112")
        };
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        let (number, width, least) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, 8),
            IpAddr::V6(address) => (u128::from(address), 128, 64),
        };
        if !(least..=width - 2).contains(&bits) {
            let most = width - 2;
            return Err(format!(
                "service range {text:?}: the prefix must have {least} to {most} bits"
            ));
        }
        let size = 1_u128 << (width - bits);
        Ok(Self {
            family: Family::of(address),
            first: number & !(size - 1),
            size,
        })
    }

    /// How many addresses can be given.
    pub fn capacity(&self) -> u128 {
        // The network's own, and the last one where it would be for everybody.
        self.size - if self.family == Family::V4 { 2 } else { 1 }
    }

    /// The address at a place below [`Range::capacity`].
    pub fn address(&self, place: u128) -> IpAddr {
        let number = self.first + 1 + place % self.capacity();
        match self.family {
            // The range was read from 32 bits.
            Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Family::V6 => Ipv6Addr::from(number).into(),
        }
    }

    /// Whether an address can be given.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        Family::of(address) == self.family
            && number > self.first
            && number - self.first <= self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let check =
            |text: &str, expect: Result<(&str, u128), &str>| match (Range::parse(text), expect) {
                (Ok(range), Ok((first, capacity))) => {
                    assert_eq!(
                        (range.address(0).to_string().as_str(), range.capacity()),
                        (first, capacity)
                    );
                    assert!(range.contains(range.address(capacity - 1)));
                    assert_eq!(range.address(capacity), range.address(0));
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            };
        check("10.96.0.0/16", Ok(("10.96.0.1", 65_534)));
        check("10.96.3.7/29", Ok(("10.96.3.1", 6)));
        check("fd00:10:96::/112", Ok(("fd00:10:96::1", 65_535)));
        check("10.96.0.0/31", Err("8 to 30 bits"));
        check("fd00::/48", Err("64 to 126 bits"));
        check("nonsense", Err("no range"));
        assert_eq!(
            Range::parse_all("10.0.0.0/24,fd00::/112").map(|all| all.len()),
            Ok(2)
        );
        assert!(Range::parse_all("10.0.0.0/24,10.1.0.0/24").is_err());
        assert!(Range::parse_all("10.0.0.0/24,fd00::/112,fd01::/112").is_err());
    }

    #[test]
    fn the_ends_of_a_range_are_nobodys() {
        let range = Range::parse("10.0.0.0/29").expect("a range");
        let has = |text: &str| range.contains(text.parse().expect("an address"));
        assert!(!has("10.0.0.0") && has("10.0.0.1") && has("10.0.0.6") && !has("10.0.0.7"));
        assert!(!has("10.0.0.8") && !has("fd00::1"));
    }
}
