//! `corvus graph fmt`: one way to write definitions.
//!
//! It works on the text, so comments, quotes and the order of things stay: lines lose their trailing
//! blanks, tabs in the indentation and carriage returns, expressions the blanks inside their braces, runs
//! of empty lines become one, and a file ends with one line end. A file that would mean something else
//! afterwards is left alone, and an error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

/// The arguments of `corvus graph fmt`.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 nothing to do or done, 1 with --check: some files are not formatted, 2 a file cannot be read.

Examples:
  corvus graph fmt rgd.yaml
  corvus graph fmt --check *.yaml")]
pub struct Arguments {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change nothing, name the files that are not formatted.
    #[arg(long)]
    check: bool,
}

/// Formats.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut differing = false;
    for file in &arguments.files {
        match format_file(file, arguments.check) {
            Ok(true) => {
                differing = true;
                println!("{}", file.display());
            }
            Ok(false) => {}
            Err(error) => {
                eprintln!("corvus: {error:#}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    Ok(if differing && arguments.check {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether the file was, or is, not formatted.
fn format_file(file: &Path, check: bool) -> anyhow::Result<bool> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let formatted = format_text(&text);
    if formatted == text {
        return Ok(false);
    }
    if meaning(&text, file)? != meaning(&formatted, file)? {
        bail!(
            "{}: a text in it depends on blanks at the ends of its lines",
            file.display()
        );
    }
    if !check {
        std::fs::write(file, formatted).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(true)
}

/// What a file says, but for blanks inside the braces of expressions.
fn meaning(text: &str, file: &Path) -> anyhow::Result<Vec<Value>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let mut values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| anyhow!("{}: {error}", file.display()))?;
    values.iter_mut().for_each(trim_expressions);
    Ok(values)
}

fn trim_expressions(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.lines().map(tight).collect::<Vec<_>>().join("\n"),
        Value::Array(items) => items.iter_mut().for_each(trim_expressions),
        Value::Object(fields) => fields.values_mut().for_each(trim_expressions),
        _ => {}
    }
}

fn format_text(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = tight(line.trim_end());
        if line.is_empty() && lines.last().is_none_or(String::is_empty) {
            continue;
        }
        lines.push(line);
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let mut formatted = lines.join("\n");
    formatted.push('\n');
    formatted
}

/// A line without blanks inside the braces of its expressions: `${ a }` becomes `${a}`. Strings in
/// expressions are stepped over.
fn tight(line: &str) -> String {
    let mut made = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("${") {
        let (before, inner) = (&rest[..start], &rest[start + 2..]);
        made.push_str(before);
        made.push_str("${");
        let Some(end) = end_of_expression(inner) else {
            made.push_str(inner);
            return made;
        };
        made.push_str(inner[..end].trim());
        made.push('}');
        rest = &inner[end + 1..];
    }
    made.push_str(rest);
    made
}

/// Where the brace stands that ends an expression.
fn end_of_expression(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_write() {
        let check = |text: &str, expect: &str| {
            assert_eq!(format_text(text), expect);
            assert_eq!(format_text(expect), expect, "formatting is done once");
        };
        check("\n\na: ${ b }  \r\n\n\n\nc: 1\n\n", "a: ${b}\n\nc: 1\n");
        check(
            "a: \"x-${ f({'k': '}'}) }-${  g }\"",
            "a: \"x-${f({'k': '}'})}-${g}\"\n",
        );
        check("a: ${ open", "a: ${ open\n");
        check("# a comment ${ x }\n", "# a comment ${x}\n");
    }
}
