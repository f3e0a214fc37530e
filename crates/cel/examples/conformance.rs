//! Runs the specification's conformance vectors.
//!
//! `cargo run -p cel --release --example conformance -- DIR` reads every `*.json` file of the directory, each a
//! `SimpleTestFile` in protobuf's JSON form. It prints one line per failure and, last, the counts. Vectors marked
//! `needsMessages` are skipped: protobuf messages are no part of this crate.

use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cel::{Activation, Env, Function, MapBuilder, OpaqueType, Type, Value};
use serde_json::Value as Json;

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: conformance DIRECTORY");
        return ExitCode::from(2);
    };
    let mut counts = Counts::default();
    if let Err(error) = run_directory(Path::new(&directory), &mut counts) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

fn run_directory(directory: &Path, counts: &mut Counts) -> Result<(), Box<dyn std::error::Error>> {
    let mut files: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let path = file.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let document: Json = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
        let file_name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for section in items(&document["section"]) {
            for vector in items(&section["test"]) {
                run_one(&file_name, section, vector, counts);
            }
        }
    }
    Ok(())
}

fn items(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn run_one(file: &str, section: &Json, vector: &Json, counts: &mut Counts) {
    if vector["needsMessages"] == true {
        counts.skipped += 1;
        return;
    }
    match run_vector(vector) {
        Ok(()) => counts.passed += 1,
        Err(reason) => {
            counts.failed += 1;
            let name = |json: &Json| json["name"].as_str().unwrap_or_default().to_owned();
            println!(
                "FAIL {file}/{}/{}: {} => {}",
                name(section),
                name(vector),
                vector["expr"]
                    .as_str()
                    .unwrap_or_default()
                    .replace('\n', "\\n"),
                reason.replace('\n', "\\n")
            );
        }
    }
}

fn run_vector(vector: &Json) -> Result<(), String> {
    let env = environment(vector)?;
    let source = vector["expr"].as_str().unwrap_or_default();
    let expects_error = vector.get("evalError").is_some();
    let check = vector["disableCheck"] != true;
    let program = if check {
        env.compile(source)
    } else {
        env.compile_unchecked(source)
    };
    let program = match program {
        Ok(program) => program,
        // An error the checker finds never gets as far as evaluation.
        Err(_) if expects_error => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let typed = &vector["typedResult"];
    if let Some(deduced) = typed.get("deducedType") {
        let expected = type_from(deduced)?;
        if *program.result_type() != expected {
            return Err(format!(
                "deduced {}, expected {expected}",
                program.result_type()
            ));
        }
    }
    if vector["checkOnly"] == true {
        return Ok(());
    }
    let bindings = bindings(vector)?;
    let mut activation = Activation::new();
    for (name, value) in &bindings {
        activation.bind(name, value.clone());
    }
    let result = program.eval(&activation);
    let expected = vector.get("value").or_else(|| typed.get("result"));
    match (result, expects_error) {
        (Err(_), true) => Ok(()),
        (Ok(value), true) => Err(format!("expected an error, got {value:?}")),
        (Err(error), false) => Err(error.to_string()),
        (Ok(value), false) => {
            // Without a value the expression is expected to be true.
            let expected = expected.map_or(Ok(Value::Bool(true)), value_from)?;
            if same(&value, &expected) {
                Ok(())
            } else {
                Err(format!("got {value:?}, expected {expected:?}"))
            }
        }
    }
}

/// Equal and of the same type; NaN is the same as NaN.
/// Whether bytes are the expected ones. The published vectors keep one escape of protobuf's text form
/// that their JSON form should not have: the two bytes `\\?` where the text form means `?`.
fn same_bytes(value: &[u8], expected: &[u8]) -> bool {
    value == expected
        || value
            == String::from_utf8_lossy(expected)
                .replace("\\?", "?")
                .as_bytes()
}

fn same(value: &Value<'_>, expected: &Value<'_>) -> bool {
    if let (Value::Bytes(value), Value::Bytes(expected)) = (value, expected) {
        return same_bytes(value, expected);
    }
    match (value, expected) {
        (Value::Double(a), Value::Double(b)) => same_double(*a, *b),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len()
                && a.iter().zip(b.iter()).all(|pair| matches!(pair, (Ok(a), Ok(b)) if same(&a, &b)))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.entries().all(|(key, value)| {
                    b.entries().any(|(other, expected)| {
                        same(&key, &other)
                            && matches!((&value, &expected), (Ok(value), Ok(expected)) if same(value, expected))
                    })
                })
        }
        _ => std::mem::discriminant(value) == std::mem::discriminant(expected) && value == expected,
    }
}

/// The reader of the vectors may be off by a bit or two in the last place of a double.
fn same_double(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan())
        || (a.is_sign_negative() == b.is_sign_negative() && a.to_bits().abs_diff(b.to_bits()) <= 2)
}

fn environment(vector: &Json) -> Result<Env, String> {
    let mut builder = Env::with_all_libraries().extend();
    if let Some(container) = vector["container"].as_str() {
        builder = builder.container(container);
    }
    for declaration in items(&vector["typeEnv"]) {
        let name = declaration["name"].as_str().unwrap_or_default();
        if let Some(ident) = declaration.get("ident") {
            builder = builder.variable(name, type_from(&ident["type"])?);
        }
        if let Some(function) = declaration.get("function") {
            let mut declared = Function::new(name);
            for overload in items(&function["overloads"]) {
                let parameters = items(&overload["params"])
                    .iter()
                    .map(type_from)
                    .collect::<Result<_, _>>()?;
                let member = overload["isInstanceFunction"] == true;
                let id = overload["overloadId"].as_str().unwrap_or_default();
                declared =
                    declared.declared(id, member, parameters, type_from(&overload["resultType"])?);
            }
            builder = builder.function(declared);
        }
    }
    builder.build().map_err(|error| error.to_string())
}

fn bindings(vector: &Json) -> Result<Vec<(String, Value<'static>)>, String> {
    let Some(bindings) = vector["bindings"].as_object() else {
        return Ok(Vec::new());
    };
    bindings
        .iter()
        .map(|(name, bound)| Ok((name.clone(), value_from(&bound["value"])?)))
        .collect()
}

fn type_from(json: &Json) -> Result<Type, String> {
    let Some((kind, content)) = json.as_object().and_then(|object| object.iter().next()) else {
        return Ok(Type::Dyn);
    };
    let name = content.as_str().unwrap_or_default();
    Ok(match kind.as_str() {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "primitive" => primitive(name)?,
        "wrapper" => Type::wrapper(primitive(name)?),
        "wellKnown" => match name {
            "ANY" => Type::Any,
            "TIMESTAMP" => Type::Timestamp,
            "DURATION" => Type::Duration,
            other => return Err(format!("unknown well-known type {other}")),
        },
        "listType" => Type::list(type_from(&content["elemType"])?),
        "mapType" => Type::map(
            type_from(&content["keyType"])?,
            type_from(&content["valueType"])?,
        ),
        "messageType" => message_type(name),
        "typeParam" => Type::Param(name.bytes().next().unwrap_or(b'A') - b'A'),
        "type" => Type::type_of(type_from(content)?),
        "abstractType" => {
            let name = content["name"].as_str().unwrap_or_default();
            let parameters = items(&content["parameterTypes"])
                .iter()
                .map(type_from)
                .collect::<Result<Vec<_>, _>>()?;
            match (name, &*parameters) {
                ("optional_type", [inner]) => Type::optional(inner.clone()),
                _ => Type::Opaque(
                    OpaqueType {
                        name: name.into(),
                        parameters,
                    }
                    .into(),
                ),
            }
        }
        other => return Err(format!("unknown type {other}")),
    })
}

fn primitive(name: &str) -> Result<Type, String> {
    Ok(match name {
        "BOOL" => Type::Bool,
        "INT64" => Type::Int,
        "UINT64" => Type::Uint,
        "DOUBLE" => Type::Double,
        "STRING" => Type::String,
        "BYTES" => Type::Bytes,
        other => return Err(format!("unknown primitive type {other}")),
    })
}

fn message_type(name: &str) -> Type {
    match name.strip_prefix("google.protobuf.").unwrap_or(name) {
        "Timestamp" => Type::Timestamp,
        "Duration" => Type::Duration,
        "Any" => Type::Any,
        "BoolValue" => Type::wrapper(Type::Bool),
        "BytesValue" => Type::wrapper(Type::Bytes),
        "DoubleValue" | "FloatValue" => Type::wrapper(Type::Double),
        "Int32Value" | "Int64Value" => Type::wrapper(Type::Int),
        "UInt32Value" | "UInt64Value" => Type::wrapper(Type::Uint),
        "StringValue" => Type::wrapper(Type::String),
        "ListValue" => Type::list(Type::Dyn),
        "Struct" => Type::map(Type::String, Type::Dyn),
        _ => Type::Dyn,
    }
}

fn number<T: std::str::FromStr>(json: &Json) -> Result<T, String> {
    let text = json
        .as_str()
        .map_or_else(|| json.to_string(), str::to_owned);
    text.parse()
        .map_err(|_| format!("{text} is no number of the expected type"))
}

fn bytes_from(json: &Json) -> Result<Value<'static>, String> {
    let decoded = BASE64_STANDARD.decode(json.as_str().unwrap_or_default());
    decoded.map(Value::bytes).map_err(|error| error.to_string())
}

fn value_from(json: &Json) -> Result<Value<'static>, String> {
    let Some((kind, content)) = json.as_object().and_then(|object| object.iter().next()) else {
        return Err(format!("{json} is no value"));
    };
    let text = || content.as_str().unwrap_or_default().to_owned();
    Ok(match kind.as_str() {
        "nullValue" => Value::Null,
        "boolValue" => Value::Bool(content == true),
        "int64Value" => Value::Int(number(content)?),
        "uint64Value" => Value::Uint(number(content)?),
        "doubleValue" => Value::Double(match content.as_str() {
            Some("NaN") => f64::NAN,
            Some("Infinity") => f64::INFINITY,
            Some("-Infinity") => f64::NEG_INFINITY,
            _ => number(content)?,
        }),
        "stringValue" => Value::string(text()),
        "bytesValue" => bytes_from(content)?,
        "typeValue" => {
            let name = text();
            let found = Env::with_all_libraries().find_type(&name);
            Value::Type(found.ok_or_else(|| format!("unknown type {name}"))?)
        }
        "listValue" => Value::list(
            items(&content["values"])
                .iter()
                .map(value_from)
                .collect::<Result<_, _>>()?,
        ),
        "mapValue" => {
            let mut builder = MapBuilder::default();
            for entry in items(&content["entries"]) {
                let (key, value) = (value_from(&entry["key"])?, value_from(&entry["value"])?);
                builder
                    .insert(key, value)
                    .map_err(|error| error.to_string())?;
            }
            Value::Map(builder.build())
        }
        "objectValue" => well_known(content)?,
        other => return Err(format!("unknown kind of value {other}")),
    })
}

/// A well-known message packed into an `Any`.
fn well_known(json: &Json) -> Result<Value<'static>, String> {
    let kind = json["@type"].as_str().unwrap_or_default();
    let value = &json["value"];
    let text = value.as_str().unwrap_or_default();
    Ok(match kind.rsplit('.').next().unwrap_or_default() {
        "BoolValue" => Value::Bool(value == true),
        "BytesValue" => bytes_from(value)?,
        "DoubleValue" | "FloatValue" => Value::Double(number(value)?),
        "Int32Value" | "Int64Value" => Value::Int(number(value)?),
        "UInt32Value" | "UInt64Value" => Value::Uint(number(value)?),
        "StringValue" => Value::string(text),
        "Duration" => Value::Duration(cel::Duration::parse(text).ok_or("no duration")?),
        "Timestamp" => Value::Timestamp(cel::Timestamp::parse(text).ok_or("no timestamp")?),
        "ListValue" | "Struct" | "Value" => plain(value)?,
        other => return Err(format!("unknown message {other}")),
    })
}

/// JSON as `google.protobuf.Value` reads it: all numbers are doubles.
fn plain(json: &Json) -> Result<Value<'static>, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(value) => Value::Double(value.as_f64().unwrap_or_default()),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(array) => Value::list(array.iter().map(plain).collect::<Result<_, _>>()?),
        Json::Object(object) => {
            let mut builder = MapBuilder::default();
            for (key, value) in object {
                builder
                    .insert(Value::string(key.as_str()), plain(value)?)
                    .map_err(|error| error.to_string())?;
            }
            Value::Map(builder.build())
        }
    })
}
