//! Quantities: exact decimal amounts with Kubernetes' suffixes.
//!
//! A quantity is a whole number of billionths (`n`), the finest unit Kubernetes keeps, together with
//! the family of suffixes it was written in, which decides how it is printed.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use crate::Error;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
/// Digits up to which a decimal amount is not capped at 63 bits.
const SHORT_DIGITS: usize = 15;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// `k`, `M`, `G`... and `m`, `u`, `n`.
    Decimal,
    /// `Ki`, `Mi`, `Gi`...
    Binary,
    /// `1e3`.
    Exponent,
}

/// An exact amount, such as `100m` CPUs or `1Gi` of memory.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    family: Family,
}

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANOS_PER_UNIT,
            family: Family::Decimal,
        }
    }

    /// A whole number of thousandths, as CPUs are counted.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * 1_000_000,
            family: Family::Decimal,
        }
    }

    /// The same amount, written in powers of two, as memory is.
    pub fn binary(self) -> Self {
        Self {
            family: Family::Binary,
            ..self
        }
    }

    /// The amount in units, rounded up, as upstream's `Value()`.
    pub fn value(&self) -> i64 {
        saturate(div_ceil(self.nanos, NANOS_PER_UNIT))
    }

    /// The amount in thousandths, rounded up, as upstream's `MilliValue()`.
    pub fn milli_value(&self) -> i64 {
        saturate(div_ceil(self.nanos, 1_000_000))
    }

    /// The amount as the nearest float.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS_PER_UNIT as f64
    }

    /// Whether the amount is a whole number of units that fits 64 bits.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANOS_PER_UNIT == 0 && i64::try_from(self.nanos / NANOS_PER_UNIT).is_ok()
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i64 {
        self.nanos.signum() as i64
    }
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The multiplier of a suffix as mantissa base and exponent.
fn suffix(text: &str) -> Option<(Family, i128, i32)> {
    let decimal = |power| Some((Family::Decimal, 10, power));
    let binary = |power| Some((Family::Binary, 2, power));
    match text {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = text.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            Some((Family::Exponent, 10, power.clamp(-40, 40)))
        }
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(Error::Quantity);
        }
        let (family, base, power) = suffix(unit).ok_or(Error::Quantity)?;
        let nanos = scale(whole, fraction, base, power);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            family,
        })
    }
}

/// `whole.fraction` times `base^power`, in billionths, rounded up; saturates where upstream caps.
fn scale(whole: &str, fraction: &str, base: i128, power: i32) -> i128 {
    // As upstream: few digits with a decimal suffix are kept as they are, however large.
    let short = base == 10 && whole.len() + fraction.len() <= SHORT_DIGITS;
    let limit = if short {
        i128::MAX
    } else {
        i128::from(i64::MAX) * NANOS_PER_UNIT
    };
    let mut digits: i128 = 0;
    let mut exponent = -(fraction.len().min(30) as i32);
    for byte in whole.bytes().chain(fraction.bytes().take(30)) {
        match digits
            .checked_mul(10)
            .and_then(|d| d.checked_add(i128::from(byte - b'0')))
        {
            Some(next) => digits = next,
            None => exponent += 1,
        }
    }
    if digits == 0 {
        return 0;
    }
    let mut value = digits;
    let mut tens = exponent + 9;
    if base == 10 {
        tens += power;
    } else {
        match value.checked_mul(1_i128 << power) {
            Some(product) => value = product,
            None => return limit,
        }
    }
    while tens > 0 {
        match value.checked_mul(10) {
            Some(product) => value = product,
            None => return limit,
        }
        tens -= 1;
    }
    let divisor = 10_i128
        .checked_pow(tens.unsigned_abs())
        .unwrap_or(i128::MAX);
    div_ceil(value, divisor).min(limit)
}

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix of its family that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.family == Family::Binary && self.nanos % NANOS_PER_UNIT == 0 {
            let units = self.nanos / NANOS_PER_UNIT;
            if units.abs() < 1024 {
                return write!(f, "{units}");
            }
            for (power, name) in [
                (60, "Ei"),
                (50, "Pi"),
                (40, "Ti"),
                (30, "Gi"),
                (20, "Mi"),
                (10, "Ki"),
            ] {
                if units % (1_i128 << power) == 0 {
                    return write!(f, "{}{name}", units / (1_i128 << power));
                }
            }
            return write!(f, "{units}");
        }
        let names = [
            (18, "E"),
            (15, "P"),
            (12, "T"),
            (9, "G"),
            (6, "M"),
            (3, "k"),
            (0, ""),
            (-3, "m"),
            (-6, "u"),
            (-9, "n"),
        ];
        for (power, name) in names {
            let unit = 10_i128.pow((power + 9) as u32);
            if self.nanos % unit == 0 {
                let amount = self.nanos / unit;
                return match (self.family, power) {
                    (_, 0) => write!(f, "{amount}"),
                    (Family::Exponent, _) => write!(f, "{amount}e{power}"),
                    _ => write!(f, "{amount}{name}"),
                };
            }
        }
        write!(f, "{}n", self.nanos)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // As upstream: a zero takes over the other's way of being written.
        let family = if self.nanos == 0 {
            other.family
        } else {
            self.family
        };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            family,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let family = if self.nanos == 0 {
            other.family
        } else {
            self.family
        };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            family,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        let quantity: Quantity = text.parse().expect(text);
        assert_eq!(quantity.to_string(), canonical, "{text}");
    }

    #[test]
    fn quantities_print_in_canonical_form() {
        check("0", "0");
        check("1", "1");
        check("0.5", "500m");
        check("1000m", "1");
        check("1.5Gi", "1536Mi");
        check("1024Mi", "1Gi");
        check("1000", "1k");
        check("1e3", "1e3");
        check("1000k", "1M");
        check("100Ki", "100Ki");
        check("0.1n", "1n");
        check("-1.5", "-1500m");
        check("1Ei", "1Ei");
        check(".5", "500m");
        check("1536", "1536");
        check("2.5Ki", "2560");
    }

    #[test]
    fn malformed_quantities_are_refused() {
        for text in ["", "-", "1x", "1.2.3", "Gi", "1 Gi", "1e", "0x10"] {
            assert_eq!(text.parse::<Quantity>(), Err(Error::Quantity), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let quantity: Quantity = "1500m".parse().expect("valid");
        assert_eq!((quantity.value(), quantity.milli_value()), (2, 1500));
        assert!(!quantity.is_integer());
    }

    #[test]
    fn absurd_numbers_saturate() {
        let quantity: Quantity = "9".repeat(200).parse().expect("digits");
        assert_eq!(quantity.value(), i64::MAX);
    }
}
