//! `random.seededString` and `random.seededInt`: the same seed gives the same result.

use cel::{EvalError, Function, Library, Type, Value};
use sha2::{Digest as _, Sha256};

use crate::kubernetes::{int, text};

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

pub fn library() -> Library {
    Library::new("kro.random")
        .function(
            Function::new("random.seededString")
                .global(
                    "random.seededString_int_string",
                    [Type::Int, Type::String],
                    Type::String,
                    |context, arguments| {
                        let length = int(arguments, 0)?;
                        if length <= 0 {
                            return Err(EvalError::invalid(
                                "random.seededString length must be greater than 0",
                            ));
                        }
                        let length = usize::try_from(length).unwrap_or(usize::MAX);
                        context.check_bytes(length)?;
                        Ok(Value::string(seeded_string(length, text(arguments, 1)?)))
                    },
                )
                .cost(|_, result| cel::cost::traverse(cel::cost::size(result)).max(1)),
        )
        .function(Function::new("random.seededInt").global(
            "random.seededInt_int_int_string",
            [Type::Int, Type::Int, Type::String],
            Type::Int,
            |_, arguments| {
                let (min, max) = (int(arguments, 0)?, int(arguments, 1)?);
                if min >= max {
                    return Err(EvalError::invalid(
                        "random.seededInt min must be less than max",
                    ));
                }
                let hash = Sha256::digest(text(arguments, 2)?);
                let first: [u8; 8] = std::array::from_fn(|at| hash[at]);
                let span = max.wrapping_sub(min) as u64;
                Ok(Value::Int(
                    min.wrapping_add((u64::from_be_bytes(first) % span) as i64),
                ))
            },
        ))
}

/// Four bytes of the hash choose each character. The hash is used over and over, so the text has a period of eight:
/// kro's does.
fn seeded_string(length: usize, seed: &str) -> String {
    let hash = Sha256::digest(seed);
    let character = |index: usize| {
        let start = index * 4 % hash.len();
        let bytes: [u8; 4] = std::array::from_fn(|at| hash[start + at]);
        char::from(ALPHABET[u32::from_be_bytes(bytes) as usize % ALPHABET.len()])
    };
    (0..length).map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_repeat_after_eight() {
        let text = seeded_string(20, "seed");
        assert_eq!(&text[..8], &text[8..16]);
        assert_eq!(&text[..4], &text[16..]);
    }
}
