//! The query string of a request.

use model::{FieldSelector, LabelSelector, Status};

/// Decoded parameters, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string.
    pub fn parse(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default();
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a parameter; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// The first value of a parameter, which may be empty.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A boolean as the API server reads one: anything but `false` and `0` that is there is true.
    pub fn flag(&self, name: &str) -> bool {
        self.raw(name)
            .is_some_and(|value| !matches!(value.to_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "strconv.ParseInt: parsing \"{text}\": invalid syntax"
            ))
        })
    }

    /// `labelSelector`.
    pub fn label_selector(&self) -> Result<LabelSelector, Status> {
        LabelSelector::parse(self.get("labelSelector").unwrap_or_default())
            .map_err(|error| Status::bad_request(error.to_string()))
    }

    /// `fieldSelector`.
    pub fn field_selector(&self) -> Result<FieldSelector, Status> {
        FieldSelector::parse(self.get("fieldSelector").unwrap_or_default())
            .map_err(|error| Status::bad_request(error.to_string()))
    }

    /// Whether the write is only tried out.
    pub fn dry_run(&self) -> bool {
        self.all("dryRun").any(|value| value == "All")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("labelSelector=a%3Db&watch=1&limit=5&x="));
        assert_eq!(query.get("labelSelector"), Some("a=b"));
        assert!(query.flag("watch"));
        assert!(!query.flag("other"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.get("x"), None);
        assert!(Query::parse(Some("limit=x")).number("limit").is_err());
    }
}
