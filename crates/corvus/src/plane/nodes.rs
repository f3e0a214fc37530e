//! Whose virtual nodes are whose.

use super::files::DataDir;

/// The name of this server among those that share a store; kept in the data directory.
pub fn server(data: &DataDir) -> anyhow::Result<String> {
    const FILE: &str = "server-id";
    if let Some(name) = data.read(FILE)? {
        return Ok(name.trim().to_owned());
    }
    let name = pki::new_token();
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(16)
        .collect();
    data.write(FILE, &name)?;
    Ok(name)
}
