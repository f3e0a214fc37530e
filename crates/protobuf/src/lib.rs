//! Kubernetes' protobuf encoding, from and to JSON.
//!
//! Clients in Go send and want built-in objects as protobuf. Objects are JSON everywhere else in this
//! project, so a body becomes the JSON it stands for, and an answer is made of the JSON it would be. The
//! numbers of the fields are facts about the published types of 1.36, kept as a table
//! (`data/fields.txt`): one message a line, its fields as `name:number:type`, a type with `*` where Go has
//! a pointer, with `^` where the fields of a message stand in the JSON of the one around it.
//!
//! Left out on purpose: custom resources, which have no protobuf upstream either.

mod encode;
mod message;
mod openapi;
mod table;
mod wire;

pub use encode::{encode, encode_event, encode_item, encode_list, has_message, raw_json};
pub use message::decode;
pub use openapi::{OPENAPI_V2_MEDIA_TYPE, encode_openapi_v2};

/// The media type of the encoding.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body does not start as every protobuf body of Kubernetes does.
    #[error("the body does not start with the four bytes of Kubernetes' protobuf encoding")]
    Prefix,
    /// The body ends in the middle of something.
    #[error("the body ends in the middle of a field of {0}")]
    Truncated(String),
    /// A field is of another wire type than its message says, or of none there is.
    #[error("field {field} of {message} has an unexpected wire type")]
    WireType {
        /// The message.
        message: String,
        /// The number of the field.
        field: u64,
    },
    /// Text that is not UTF-8, or JSON that does not parse.
    #[error("field {field} of {message} holds malformed text")]
    Text {
        /// The message.
        message: String,
        /// The number of the field.
        field: u64,
    },
    /// A kind that has no protobuf encoding here.
    #[error("{0} has no protobuf encoding")]
    Kind(String),
    /// Messages within messages, too deep.
    #[error("messages are nested too deeply")]
    Depth,
}
