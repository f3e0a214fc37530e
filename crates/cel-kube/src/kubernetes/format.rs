//! Named formats: `format.dns1123Label().validate('Nope')` gives what is wrong with a text, or nothing.

use std::any::Any;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cel::{EvalError, Function, Library, Opaque, Timestamp, Type, Value};

use model::names;

use super::{text, urls};

/// Says what is wrong with a text.
type Validate = fn(&str) -> Vec<String>;

/// A name and its check.
#[derive(Clone, Copy, Debug)]
struct Format {
    name: &'static str,
    validate: Validate,
}

fn ty() -> Type {
    Type::opaque("kubernetes.NamedFormat")
}

impl Opaque for Format {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|other| self.name == other.name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

const FORMATS: [Format; 13] = [
    Format {
        name: "dns1123Label",
        validate: names::dns1123_label,
    },
    Format {
        name: "dns1123Subdomain",
        validate: names::dns1123_subdomain,
    },
    Format {
        name: "dns1035Label",
        validate: names::dns1035_label,
    },
    Format {
        name: "qualifiedName",
        validate: names::qualified_name,
    },
    Format {
        name: "dns1123LabelPrefix",
        validate: |text| names::dns1123_label(prefix(text)),
    },
    Format {
        name: "dns1123SubdomainPrefix",
        validate: |text| names::dns1123_subdomain(prefix(text)),
    },
    Format {
        name: "dns1035LabelPrefix",
        validate: |text| names::dns1035_label(prefix(text)),
    },
    Format {
        name: "labelValue",
        validate: names::label_value,
    },
    Format {
        name: "uri",
        validate: |text| urls::check(text).err().into_iter().collect(),
    },
    Format {
        name: "uuid",
        validate: |text| unless(is_uuid(text), "does not match the UUID format"),
    },
    Format {
        name: "byte",
        validate: |text| unless(BASE64_STANDARD.decode(text).is_ok(), "invalid base64"),
    },
    Format {
        name: "date",
        validate: |text| unless(Timestamp::parse_date(text).is_some(), "invalid date"),
    },
    Format {
        name: "datetime",
        validate: |text| unless(Timestamp::parse(text).is_some(), "invalid datetime"),
    },
];

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid {
        Vec::new()
    } else {
        vec![message.to_owned()]
    }
}

/// A prefix may end in a dash: what follows makes it a name.
fn prefix(text: &str) -> &str {
    text.strip_suffix('-').unwrap_or(text)
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [32])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub fn library() -> Library {
    let mut library = Library::new("kubernetes.format").named_type(ty()).function(
        Function::new("format.named").global(
            "format-named",
            [Type::String],
            Type::optional(ty()),
            |_, arguments| {
                let wanted = text(arguments, 0)?;
                let found = FORMATS.iter().find(|format| format.name == wanted);
                Ok(found.map_or(Value::Optional(None), |format| {
                    Value::some(Value::opaque(*format))
                }))
            },
        ),
    );
    for format in FORMATS {
        let function = Function::new(&format!("format.{}", format.name));
        let id = format!("format-{}", format.name);
        library =
            library.function(function.global(&id, [], ty(), move |_, _| Ok(Value::opaque(format))));
    }
    library.function(
        Function::new("validate")
            .member(
                "format-validate",
                [ty(), Type::String],
                Type::optional(Type::list(Type::String)),
                |_, arguments| {
                    let format = arguments.first().and_then(Value::as_opaque::<Format>);
                    let format = format.ok_or_else(EvalError::no_such_overload)?;
                    let problems = (format.validate)(text(arguments, 1)?);
                    if problems.is_empty() {
                        return Ok(Value::Optional(None));
                    }
                    Ok(Value::some(Value::list(
                        problems.into_iter().map(Value::string).collect(),
                    )))
                },
            )
            .cost(|arguments, _| 1 + cel::cost::traverse(cel::cost::size(&arguments[1])) * 6),
    )
}
