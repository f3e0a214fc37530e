//! Creations that can be repeated.
//!
//! Where the answer to a creation is lost, nobody knows whether the object is there. So the random part of its name is
//! drawn here instead of by the server: a second attempt under the same name says whether the first one came through.

use controller::{Api, Error, Object, Resource};
use model::object;
use rand::Rng as _;
use serde_json::{Value, json};

/// What upstream's servers draw names from: no vowels, nothing that is taken for another.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random part.
const RANDOM: usize = 5;
/// What is left of 63 characters before the random part.
const PREFIX_LIMIT: usize = 58;
/// How often a creation without an answer is tried.
const ATTEMPTS: usize = 3;

/// A name made from `metadata.generateName`, as the server would.
fn generate(prefix: &str) -> String {
    let mut random = rand::rng();
    let mut name: String = prefix.chars().take(PREFIX_LIMIT).collect();
    name.extend((0..RANDOM).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])));
    name
}

/// Creates an object that has a `generateName`; what is created twice is there once.
pub async fn create_named(
    api: &Api,
    resource: &Resource,
    mut wanted: Value,
) -> Result<Object, Error> {
    let prefix = object::text(&wanted, &["metadata", "generateName"]).to_owned();
    wanted["metadata"]["name"] = json!(generate(&prefix));
    let (mut attempt, mut unsure) = (1, false);
    loop {
        match api.create(resource, &wanted).await {
            Err(error) if error.is_already_exists() => {
                if unsure {
                    let object = Object::new(wanted.clone());
                    let present = api.get(resource, &object.key()).await?;
                    if same_owner(&present, &object) {
                        return Ok(present);
                    }
                }
                if attempt == ATTEMPTS {
                    return Err(error);
                }
                wanted["metadata"]["name"] = json!(generate(&prefix));
            }
            Err(error) if error.status().is_none() && attempt < ATTEMPTS => unsure = true,
            outcome => return outcome,
        }
        attempt += 1;
    }
}

fn same_owner(one: &Object, other: &Object) -> bool {
    let owner = |object: &Object| object.controller_of().map(|owner| owner.uid);
    owner(one) == owner(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        let name = generate(&"a".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(generate("job-").starts_with("job-"));
    }
}
