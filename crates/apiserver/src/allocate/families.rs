//! Which families of addresses a Service has, in a cluster that has one or two. Pure.

use model::{FieldError, FieldPath, object};
use serde_json::{Value, json};

use super::range::Family;

const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Fills in what the policy asks for; `configured` are the cluster's families, its own first.
pub fn settle(
    service: &mut Value,
    old: Option<&Value>,
    configured: &[Family],
) -> Result<(), Vec<FieldError>> {
    let spec = |service: &Value, field: &str| object::at(service, &["spec", field]).cloned();
    let same = |field: &str| old.is_some_and(|old| spec(service, field) == spec(old, field));
    if old.is_some()
        && ["ipFamilyPolicy", "ipFamilies", "clusterIPs"]
            .into_iter()
            .all(same)
    {
        // A cluster that gets a second family changes nothing by itself.
        return Ok(());
    }
    let headless = object::text(service, &["spec", "clusterIP"]) == "None";
    let selects =
        spec(service, "selector").is_some_and(|s| s.as_object().is_some_and(|s| !s.is_empty()));
    if headless && !selects {
        return Ok(());
    }
    let policy = object::text(service, &["spec", "ipFamilyPolicy"]).to_owned();
    let mut families = named(service);
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && configured.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(
            &path.child("ipFamilyPolicy"),
            policy.as_str(),
            why,
        ));
    }
    let unnamed = object::list(service, &["spec", "clusterIPs"]).is_empty();
    if old.is_none() && unnamed && families == [Family::V4] && !configured.contains(&Family::V4) {
        // What was filled in for a Service that does not care.
        families = configured.to_vec();
        families.truncate(1);
    }
    for (index, family) in families.iter().enumerate() {
        if !configured.contains(family) {
            let path = path.child("ipFamilies").index(index);
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(&path, family.name(), why));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if policy != "SingleStack" && families.len() == 1 && configured.len() == 2 {
        families.extend(BOTH.into_iter().find(|family| *family != families[0]));
    }
    let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
    object::child_mut(service, "spec").insert("ipFamilies".to_owned(), json!(names));
    Ok(())
}

/// The families a Service names.
pub fn named(service: &Value) -> Vec<Family> {
    let families = object::list(service, &["spec", "ipFamilies"]);
    let of = |name: &Value| BOTH.into_iter().find(|family| *name == family.name());
    families.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_how_many_families_there_are() {
        let check = |policy: &str,
                     families: &[&str],
                     configured: &[Family],
                     expect: Result<&[&str], &str>| {
            let mut service = json!({"spec": {"ipFamilyPolicy": policy, "ipFamilies": families}});
            match (settle(&mut service, None, configured), expect) {
                (Ok(()), Ok(expect)) => assert_eq!(service["spec"]["ipFamilies"], json!(expect)),
                (Err(errors), Err(why)) => {
                    let text = errors[0].to_string();
                    assert!(text.contains(why), "{text}");
                }
                (found, _) => panic!("{policy} {families:?}: {found:?}"),
            }
        };
        let (one, two) = ([Family::V4], BOTH);
        check("SingleStack", &["IPv4"], &one, Ok(&["IPv4"]));
        check("SingleStack", &["IPv6"], &two, Ok(&["IPv6"]));
        check(
            "SingleStack",
            &["IPv6"],
            &one,
            Err("not configured on this cluster"),
        );
        check("SingleStack", &["IPv4"], &[Family::V6], Ok(&["IPv6"]));
        check("PreferDualStack", &["IPv4"], &one, Ok(&["IPv4"]));
        check("PreferDualStack", &["IPv4"], &two, Ok(&["IPv4", "IPv6"]));
        check("PreferDualStack", &["IPv6"], &two, Ok(&["IPv6", "IPv4"]));
        check("RequireDualStack", &["IPv4"], &two, Ok(&["IPv4", "IPv6"]));
        check(
            "RequireDualStack",
            &["IPv4"],
            &one,
            Err("this cluster is not configured for dual-stack services"),
        );
    }

    #[test]
    fn an_unchanged_service_stays_as_it_is() {
        let old = json!({"spec": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.1"]}});
        let mut new = old.clone();
        assert!(settle(&mut new, Some(&old), &BOTH).is_ok());
        assert_eq!(new, old);
    }
}
