//! `base64.encode` and `base64.decode`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use super::text;
use crate::cost;
use crate::env::{Function, Library};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::Value;

/// Padding may be missing, as in cel-go.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub fn library() -> Library {
    Library::new("encoders")
        .function(
            Function::new("base64.encode")
                .global(
                    "base64_encode_bytes",
                    [Type::Bytes],
                    Type::String,
                    |context, arguments| {
                        let Value::Bytes(bytes) = &arguments[0] else {
                            return Err(EvalError::no_such_overload());
                        };
                        context.check_bytes(bytes.len().saturating_mul(4) / 3)?;
                        Ok(Value::string(BASE64_STANDARD.encode(&**bytes)))
                    },
                )
                .cost(|arguments, _| cost::traverse(cost::size(&arguments[0]))),
        )
        .function(
            Function::new("base64.decode")
                .global(
                    "base64_decode_string",
                    [Type::String],
                    Type::Bytes,
                    |_, arguments| {
                        let decoded = LENIENT.decode(text(arguments, 0)?);
                        decoded.map(Value::bytes).map_err(|error| {
                            EvalError::invalid(format!("illegal base64 data: {error}"))
                        })
                    },
                )
                .cost(|arguments, _| cost::traverse(cost::size(&arguments[0]))),
        )
}
