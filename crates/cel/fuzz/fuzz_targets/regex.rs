//! Any pattern: what is translated must compile, limits aside.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (pattern, text) = input;
    if let Ok(regex) = cel::regex::compile(pattern) {
        let _ = regex.is_match(text);
    }
});
