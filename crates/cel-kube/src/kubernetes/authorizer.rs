//! The authorizer of admission policies: `authorizer.group('apps').resource('deployments').check('create').allowed()`.
//!
//! Who decides is the caller's: an [`Authorizer`] is asked with [`AuthorizationAttributes`], synchronously.

use std::any::Any;
use std::sync::Arc;

use cel::cost::{CallEstimate, Range};
use cel::{EvalError, Function, Library, Opaque, Type, Value};

use super::text;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationAttributes {
    /// The user asked about, if it is not the one of the request.
    pub service_account: Option<(String, String)>,
    /// The verb.
    pub verb: String,
    /// The path, for what is no resource.
    pub path: Option<String>,
    /// The group of the resource.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name of the object.
    pub name: String,
    /// The field selector, for lists.
    pub field_selector: Option<String>,
    /// The label selector, for lists.
    pub label_selector: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationDecision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

/// Decides who may do what.
pub trait Authorizer: std::fmt::Debug + Send + Sync {
    /// The decision for these attributes.
    fn authorize(&self, attributes: &AuthorizationAttributes) -> AuthorizationDecision;
}

/// An authorizer with what was asked so far.
#[derive(Clone, Debug)]
struct Check {
    kind: Kind,
    authorizer: Arc<dyn Authorizer>,
    attributes: AuthorizationAttributes,
}

/// How far a question has come; each has a type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl Kind {
    fn ty(self) -> Type {
        Type::opaque(match self {
            Self::Authorizer => "kubernetes.authorization.Authorizer",
            Self::Path => "kubernetes.authorization.PathCheck",
            Self::Group => "kubernetes.authorization.GroupCheck",
            Self::Resource => "kubernetes.authorization.ResourceCheck",
        })
    }
}

impl Opaque for Check {
    fn type_of(&self) -> Type {
        self.kind.ty()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        let other = other.as_any().downcast_ref::<Self>();
        other.is_some_and(|other| self.kind == other.kind && self.attributes == other.attributes)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Opaque for AuthorizationDecision {
    fn type_of(&self) -> Type {
        decision_type()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn decision_type() -> Type {
    Type::opaque("kubernetes.authorization.Decision")
}

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    Kind::Authorizer.ty()
}

/// The value of the variable `authorizer`.
pub fn authorizer_value(authorizer: Arc<dyn Authorizer>) -> Value<'static> {
    Value::opaque(Check {
        kind: Kind::Authorizer,
        authorizer,
        attributes: AuthorizationAttributes::default(),
    })
}

/// The type of a question about one resource: of the variable `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    Kind::Resource.ty()
}

/// A question about one resource, of which only the verb is missing.
pub fn resource_check_value(
    authorizer: Arc<dyn Authorizer>,
    attributes: AuthorizationAttributes,
) -> Value<'static> {
    Value::opaque(Check {
        kind: Kind::Resource,
        authorizer,
        attributes,
    })
}

/// A step of a question: its name, what it is asked of, what that becomes, and what it notes.
struct Step {
    name: &'static str,
    from: Kind,
    to: Kind,
    note: fn(&mut AuthorizationAttributes, String),
}

const STEPS: [Step; 8] = [
    Step {
        name: "path",
        from: Kind::Authorizer,
        to: Kind::Path,
        note: |attributes, path| attributes.path = Some(path),
    },
    Step {
        name: "group",
        from: Kind::Authorizer,
        to: Kind::Group,
        note: |attributes, group| attributes.group = group,
    },
    Step {
        name: "resource",
        from: Kind::Group,
        to: Kind::Resource,
        note: |attributes, name| attributes.resource = name,
    },
    Step {
        name: "subresource",
        from: Kind::Resource,
        to: Kind::Resource,
        note: |attributes, name| attributes.subresource = name,
    },
    Step {
        name: "namespace",
        from: Kind::Resource,
        to: Kind::Resource,
        note: |attributes, name| attributes.namespace = name,
    },
    Step {
        name: "name",
        from: Kind::Resource,
        to: Kind::Resource,
        note: |attributes, name| attributes.name = name,
    },
    Step {
        name: "fieldSelector",
        from: Kind::Resource,
        to: Kind::Resource,
        note: |attributes, selector| attributes.field_selector = Some(selector),
    },
    Step {
        name: "labelSelector",
        from: Kind::Resource,
        to: Kind::Resource,
        note: |attributes, selector| attributes.label_selector = Some(selector),
    },
];

fn check(arguments: &[Value<'_>]) -> Result<Check, EvalError> {
    let found = arguments.first().and_then(Value::as_opaque::<Check>);
    found.cloned().ok_or_else(EvalError::no_such_overload)
}

/// What one question costs: two are possible per expression.
const CHECK_COST: u64 = 350_000;

/// The functions of the variable `authorizer`.
///
/// ```
/// use std::sync::Arc;
/// use cel_kube::{AuthorizationAttributes, AuthorizationDecision, Authorizer};
///
/// #[derive(Debug)]
/// struct OnlyReading;
///
/// impl Authorizer for OnlyReading {
///     fn authorize(&self, attributes: &AuthorizationAttributes) -> AuthorizationDecision {
///         AuthorizationDecision { allowed: attributes.verb == "get", ..Default::default() }
///     }
/// }
///
/// let env = cel_kube::kubernetes_env()
///     .extend()
///     .library(cel_kube::authorizer_library())
///     .variable("authorizer", cel_kube::authorizer_type())
///     .build()?;
/// let program = env.compile("authorizer.group('apps').resource('deployments').namespace('shop').check('get').allowed()")?;
/// let mut activation = cel::Activation::new();
/// activation.bind("authorizer", cel_kube::authorizer_value(Arc::new(OnlyReading)));
/// assert_eq!(program.eval(&activation)?, cel::Value::Bool(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn authorizer_library() -> Library {
    let mut library = Library::new("kubernetes.authorizer");
    for kind in [Kind::Authorizer, Kind::Path, Kind::Group, Kind::Resource] {
        library = library.named_type(kind.ty());
    }
    library = library.named_type(decision_type());
    for step in &STEPS {
        let id = format!("authorizer_{}", step.name);
        let function = Function::new(step.name);
        library = library.function(function.member(
            &id,
            [step.from.ty(), Type::String],
            step.to.ty(),
            |_, arguments| {
                let written = text(arguments, 1)?;
                if step.name == "path" && written.is_empty() {
                    return Err(EvalError::invalid("path must not be empty"));
                }
                let mut check = check(arguments)?;
                (step.note)(&mut check.attributes, written.to_owned());
                check.kind = step.to;
                Ok(Value::opaque(check))
            },
        ));
    }
    library
        .function(service_account())
        .function(ask())
        .function(answer("allowed", Type::Bool, |decision| {
            Value::Bool(decision.allowed)
        }))
        .function(answer("reason", Type::String, |decision| {
            Value::string(decision.reason.as_str())
        }))
        .function(answer("errored", Type::Bool, |decision| {
            Value::Bool(decision.error.is_some())
        }))
        .function(answer("error", Type::String, |decision| {
            Value::string(decision.error.clone().unwrap_or_default())
        }))
}

fn service_account() -> Function {
    Function::new("serviceAccount").member(
        "authorizer_serviceaccount",
        [authorizer_type(), Type::String, Type::String],
        authorizer_type(),
        |_, arguments| {
            let mut check = check(arguments)?;
            let account = (
                text(arguments, 1)?.to_owned(),
                text(arguments, 2)?.to_owned(),
            );
            if account.0.is_empty() || account.1.is_empty() {
                return Err(EvalError::invalid(
                    "the namespace and the name of a service account must not be empty",
                ));
            }
            check.attributes.service_account = Some(account);
            Ok(Value::opaque(check))
        },
    )
}

fn ask() -> Function {
    let mut function = Function::new("check");
    for (id, kind) in [
        ("pathcheck_check", Kind::Path),
        ("resourcecheck_check", Kind::Resource),
    ] {
        function = function
            .member(
                id,
                [kind.ty(), Type::String],
                decision_type(),
                |_, arguments| {
                    let mut check = check(arguments)?;
                    text(arguments, 1)?.clone_into(&mut check.attributes.verb);
                    Ok(Value::opaque(check.authorizer.authorize(&check.attributes)))
                },
            )
            .cost(|_, _| CHECK_COST)
            .estimate(|_| CallEstimate {
                cost: Range::exactly(CHECK_COST),
                result_size: None,
            });
    }
    function
}

fn answer(
    name: &str,
    result: Type,
    read: impl Fn(&AuthorizationDecision) -> Value<'static> + Send + Sync + 'static,
) -> Function {
    Function::new(name).member(
        &format!("decision_{name}"),
        [decision_type()],
        result,
        move |_, arguments| {
            let decision = arguments
                .first()
                .and_then(Value::as_opaque::<AuthorizationDecision>);
            decision.map(&read).ok_or_else(EvalError::no_such_overload)
        },
    )
}
