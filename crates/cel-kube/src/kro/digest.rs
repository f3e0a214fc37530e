//! `hash.fnv64a`, `hash.sha256`, `hash.md5`: raw digests.

use cel::{Function, Library, Type, Value};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::kubernetes::{text, walked};

pub fn library() -> Library {
    type Hash = fn(&str) -> Vec<u8>;
    let hashes: [(&str, Hash); 3] = [
        ("hash.fnv64a", |text| {
            fnv64a(text.as_bytes()).to_be_bytes().to_vec()
        }),
        ("hash.sha256", |text| Sha256::digest(text).to_vec()),
        ("hash.md5", |text| Md5::digest(text).to_vec()),
    ];
    let mut library = Library::new("kro.hash");
    for (name, hash) in hashes {
        let function = Function::new(name)
            .global(
                &format!("{name}_string"),
                [Type::String],
                Type::Bytes,
                move |_, arguments| Ok(Value::bytes(hash(text(arguments, 0)?))),
            )
            .cost(walked);
        library = library.function(function);
    }
    library
}

fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
