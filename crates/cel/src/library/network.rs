//! IP addresses and CIDR ranges: `ip`, `isIP`, `cidr`, `isCIDR` and their methods.

use std::any::Any;
use std::net::{IpAddr, Ipv6Addr};

use super::text;
use crate::cost::{self, CallEstimate, Operand, Range};
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Opaque, Value};

/// An IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip(pub IpAddr);

/// A range of IP addresses, with the address it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

fn ip_type() -> Type {
    Type::opaque("net.IP")
}

fn cidr_type() -> Type {
    Type::opaque("net.CIDR")
}

impl Opaque for Ip {
    fn type_of(&self) -> Type {
        ip_type()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_text(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

impl Opaque for Cidr {
    fn type_of(&self) -> Type {
        cidr_type()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn to_text(&self) -> Option<String> {
        Some(format!("{}/{}", self.address, self.prefix))
    }
}

/// An IPv6 address that maps an IPv4 one and is written so. Kubernetes refuses those written in hexadecimal too;
/// here they are the IPv4 address, as the specification's vectors have it.
fn is_mapped(text: &str, address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
        && text.contains('.')
}

fn parse_ip(text: &str) -> Result<Ip, EvalError> {
    if text.contains('%') {
        return Err(EvalError::invalid(format!(
            "IP Address with zone value is not allowed: '{text}'"
        )));
    }
    let address: IpAddr = text.parse().map_err(|error| {
        EvalError::invalid(format!(
            "IP Address '{text}' parse error during conversion from string: {error}"
        ))
    })?;
    if is_mapped(text, address) {
        return Err(EvalError::invalid(format!(
            "IPv4-mapped IPv6 address is not allowed: '{text}'"
        )));
    }
    // Written in hexadecimal, a mapped address is the IPv4 address it maps.
    Ok(Ip(match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }))
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    if text.contains('%') {
        return Err(EvalError::invalid(format!(
            "CIDR with zone value is not allowed: '{text}'"
        )));
    }
    let wrong = || {
        EvalError::invalid(format!(
            "network address parse error during conversion from string: '{text}'"
        ))
    };
    let (address_text, prefix) = text.rsplit_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address_text.parse().map_err(|_| wrong())?;
    if is_mapped(address_text, address) {
        return Err(EvalError::invalid(format!(
            "IPv4-mapped IPv6 address is not allowed: '{text}'"
        )));
    }
    let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = if plain {
        prefix.parse().map_err(|_| wrong())?
    } else {
        return Err(wrong());
    };
    if prefix > bits(address) {
        return Err(wrong());
    }
    Ok(Cidr { address, prefix })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Cidr {
    fn masked(self) -> Self {
        let shift = bits(self.address) - self.prefix;
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u32::from(shift)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Self {
            address,
            prefix: self.prefix,
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self {
                address,
                prefix: self.prefix,
            }
            .masked()
            .address
                == self.masked().address
    }

    fn contains_range(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }
}

fn ip_of(value: &Value<'_>) -> Result<IpAddr, EvalError> {
    value
        .as_opaque::<Ip>()
        .map(|ip| ip.0)
        .ok_or_else(EvalError::no_such_overload)
}

fn cidr_of(value: &Value<'_>) -> Result<Cidr, EvalError> {
    value
        .as_opaque::<Cidr>()
        .copied()
        .ok_or_else(EvalError::no_such_overload)
}

fn walked(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cost::traverse(cost::size(&arguments[0]))
}

/// Bytes of a range that are compared.
fn prefix_bytes(value: &Value<'_>) -> u64 {
    value
        .as_opaque::<Cidr>()
        .map_or(1, |cidr| u64::from(cidr.prefix.div_ceil(8)))
}

/// Comparing the bytes of the prefix, after reading the argument if it is text.
fn contains_ip(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    cost::traverse(2 * prefix_bytes(&arguments[0])) + read(&arguments[1])
}

/// The same, and comparing the masked addresses and the lengths of the prefixes.
fn contains_cidr(arguments: &[Value<'_>], _: &Value<'_>) -> u64 {
    let bytes = prefix_bytes(&arguments[0]);
    cost::traverse(2 * bytes) + cost::traverse(bytes) + 1 + read(&arguments[1])
}

fn read(value: &Value<'_>) -> u64 {
    match value {
        Value::String(_) => cost::traverse(cost::size(value)),
        _ => 0,
    }
}

/// Reading the text of the argument at `index`, `times` times.
fn reading(
    index: usize,
    times: f64,
) -> impl Fn(&[Operand]) -> CallEstimate + Send + Sync + 'static {
    move |operands| CallEstimate {
        cost: operands[index]
            .size
            .scaled(times * cost::STRING_TRAVERSAL_FACTOR),
        result_size: None,
    }
}

/// Addresses have four bytes or sixteen.
const ADDRESS_BYTES: Range = Range { min: 4, max: 16 };

fn containing(
    extra: bool,
    text: bool,
) -> impl Fn(&[Operand]) -> CallEstimate + Send + Sync + 'static {
    move |operands| {
        let mut cost = ADDRESS_BYTES
            .plus(ADDRESS_BYTES)
            .scaled(cost::STRING_TRAVERSAL_FACTOR);
        if extra {
            cost = cost
                .plus(ADDRESS_BYTES.scaled(cost::STRING_TRAVERSAL_FACTOR))
                .plus(Range::exactly(1));
        }
        if text {
            cost = cost.plus(operands[1].size.scaled(cost::STRING_TRAVERSAL_FACTOR));
        }
        CallEstimate {
            cost,
            result_size: None,
        }
    }
}

pub fn library() -> Library {
    let mut library = Library::new("network")
        .named_type(ip_type())
        .named_type(cidr_type());
    for function in ip_functions().into_iter().chain(cidr_functions()) {
        library = library.function(function);
    }
    library
}

fn ip_functions() -> Vec<Function> {
    let mut functions = vec![
        Function::new("ip")
            .global("string_to_ip", [Type::String], ip_type(), |_, arguments| {
                parse_ip(text(arguments, 0)?).map(Value::opaque)
            })
            .cost(walked)
            .estimate(reading(0, 1.0))
            .member("cidr_ip", [cidr_type()], ip_type(), |_, arguments| {
                Ok(Value::opaque(Ip(cidr_of(&arguments[0])?.address)))
            }),
        Function::new("isIP")
            .global("is_ip", [Type::String], Type::Bool, |_, arguments| {
                Ok(Value::Bool(parse_ip(text(arguments, 0)?).is_ok()))
            })
            .cost(walked)
            .estimate(reading(0, 1.0)),
        Function::new("ip.isCanonical")
            .global(
                "ip_is_canonical",
                [Type::String],
                Type::Bool,
                |_, arguments| {
                    let written = text(arguments, 0)?;
                    Ok(Value::Bool(parse_ip(written)?.0.to_string() == written))
                },
            )
            .cost(|arguments, _| cost::traverse(2 * cost::size(&arguments[0])))
            .estimate(reading(0, 2.0)),
        Function::new("string")
            .global("ip_to_string", [ip_type()], Type::String, |_, arguments| {
                arguments[0].to_text()
            })
            .global(
                "cidr_to_string",
                [cidr_type()],
                Type::String,
                |_, arguments| arguments[0].to_text(),
            ),
        Function::new("family").member("ip_family", [ip_type()], Type::Int, |_, arguments| {
            Ok(Value::Int(if ip_of(&arguments[0])?.is_ipv4() {
                4
            } else {
                6
            }))
        }),
    ];
    type Test = fn(IpAddr) -> bool;
    let tests: [(&str, Test); 5] = [
        ("isUnspecified", |ip| ip.is_unspecified()),
        ("isLoopback", |ip| ip.is_loopback()),
        ("isLinkLocalMulticast", is_link_local_multicast),
        ("isLinkLocalUnicast", is_link_local_unicast),
        ("isGlobalUnicast", |ip| {
            let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
            !(broadcast
                || ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || is_link_local_unicast(ip))
        }),
    ];
    for (name, test) in tests {
        functions.push(Function::new(name).member(
            &format!("ip_{name}"),
            [ip_type()],
            Type::Bool,
            move |_, arguments| Ok(Value::Bool(test(ip_of(&arguments[0])?))),
        ));
    }
    functions
}

fn is_link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xFFC0 == 0xFE80,
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    let v6 = |ip: Ipv6Addr| ip.segments()[0] & 0xFF0F == 0xFF02;
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => v6(ip),
    }
}

fn cidr_functions() -> Vec<Function> {
    vec![
        Function::new("cidr")
            .global(
                "string_to_cidr",
                [Type::String],
                cidr_type(),
                |_, arguments| parse_cidr(text(arguments, 0)?).map(Value::opaque),
            )
            .cost(walked)
            .estimate(reading(0, 1.0)),
        Function::new("isCIDR")
            .global("is_cidr", [Type::String], Type::Bool, |_, arguments| {
                Ok(Value::Bool(parse_cidr(text(arguments, 0)?).is_ok()))
            })
            .cost(walked)
            .estimate(reading(0, 1.0)),
        Function::new("containsIP")
            .member(
                "cidr_contains_ip_ip",
                [cidr_type(), ip_type()],
                Type::Bool,
                |_, arguments| {
                    Ok(Value::Bool(
                        cidr_of(&arguments[0])?.contains(ip_of(&arguments[1])?),
                    ))
                },
            )
            .cost(contains_ip)
            .estimate(containing(false, false))
            .member(
                "cidr_contains_ip_string",
                [cidr_type(), Type::String],
                Type::Bool,
                |_, arguments| {
                    Ok(Value::Bool(
                        cidr_of(&arguments[0])?.contains(parse_ip(text(arguments, 1)?)?.0),
                    ))
                },
            )
            .cost(contains_ip)
            .estimate(containing(false, true)),
        Function::new("containsCIDR")
            .member(
                "cidr_contains_cidr",
                [cidr_type(), cidr_type()],
                Type::Bool,
                |_, arguments| {
                    Ok(Value::Bool(
                        cidr_of(&arguments[0])?.contains_range(cidr_of(&arguments[1])?),
                    ))
                },
            )
            .cost(contains_cidr)
            .estimate(containing(true, false))
            .member(
                "cidr_contains_cidr_string",
                [cidr_type(), Type::String],
                Type::Bool,
                |_, arguments| {
                    Ok(Value::Bool(
                        cidr_of(&arguments[0])?.contains_range(parse_cidr(text(arguments, 1)?)?),
                    ))
                },
            )
            .cost(contains_cidr)
            .estimate(containing(true, true)),
        Function::new("prefixLength").member(
            "cidr_prefix_length",
            [cidr_type()],
            Type::Int,
            |_, arguments| Ok(Value::Int(i64::from(cidr_of(&arguments[0])?.prefix))),
        ),
        Function::new("masked").member(
            "cidr_masked",
            [cidr_type()],
            cidr_type(),
            |_, arguments| Ok(Value::opaque(cidr_of(&arguments[0])?.masked())),
        ),
    ]
}
