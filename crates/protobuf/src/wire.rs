//! The wire: tags, numbers and lengths.

use crate::Error;

/// One field as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// A number.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
}

/// Takes the next field off a message; `None` at its end.
pub fn next<'a>(rest: &mut &'a [u8], message: &str) -> Result<Option<(u64, Field<'a>)>, Error> {
    if rest.is_empty() {
        return Ok(None);
    }
    let truncated = || Error::Truncated(message.to_owned());
    let tag = varint(rest).ok_or_else(truncated)?;
    let number = tag >> 3;
    let field = match tag & 7 {
        0 => Field::Varint(varint(rest).ok_or_else(truncated)?),
        1 => {
            let bytes = take(rest, 8).ok_or_else(truncated)?;
            Field::Fixed64(
                bytes
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u64::from(*byte)),
            )
        }
        2 => {
            let length = varint(rest).ok_or_else(truncated)?;
            let length = usize::try_from(length).map_err(|_| truncated())?;
            Field::Bytes(take(rest, length).ok_or_else(truncated)?)
        }
        5 => {
            let bytes = take(rest, 4).ok_or_else(truncated)?;
            Field::Fixed32(
                bytes
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u32::from(*byte)),
            )
        }
        _ => {
            return Err(Error::WireType {
                message: message.to_owned(),
                field: number,
            });
        }
    };
    Ok(Some((number, field)))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_off_one_by_one() {
        let mut rest: &[u8] = &[0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i'];
        assert_eq!(next(&mut rest, "M"), Ok(Some((1, Field::Varint(150)))));
        assert_eq!(next(&mut rest, "M"), Ok(Some((2, Field::Bytes(b"hi")))));
        assert_eq!(next(&mut rest, "M"), Ok(None));
        let mut cut: &[u8] = &[0x12, 0x05, b'h'];
        assert_eq!(next(&mut cut, "M"), Err(Error::Truncated("M".to_owned())));
    }
}
