//! `AlwaysAdmit` does nothing, `AlwaysDeny` refuses everything; both are off by default.

use super::{Mutate, Plugin, Validate};

/// `AlwaysAdmit`.
pub const ADMIT: Plugin = Plugin {
    name: "AlwaysAdmit",
    default: false,
    mutate: Mutate::Never,
    validate: Validate::Never,
};

/// `AlwaysDeny`.
pub const DENY: Plugin = Plugin {
    name: "AlwaysDeny",
    default: false,
    mutate: Mutate::Now(|request, new| {
        Err(request.refuse(new, "admission control is denying all modifications"))
    }),
    validate: Validate::Now(|request, new| {
        Err(request.refuse(new, "admission control is denying all modifications"))
    }),
};
