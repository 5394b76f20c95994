//! Who is let in by TCP, and how what is said is protected: the file of `--web-config`, with the keys of Prometheus' web
//! configuration. What Prometheus knows and this program does not is refused by name: passed over in silence it would be taken for
//! protection. The files that it names are read by [`crate::export::web`].

mod table;
#[cfg(test)]
mod tests;
mod tls;
mod yaml;

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, path::Path};

use hyper::header::{HeaderName, HeaderValue};

use self::table::{Table, text};
pub use self::tls::{Clients, TlsConfig};
use super::{Fault, UsageError};

/// What bcrypt may cost, as the logarithm of its rounds: 4 is the least that it knows, 15 takes two seconds or so.
const COSTS: RangeInclusive<u32> = 4..=15;
/// Length of a bcrypt hash: `$2y$10$`, 22 characters of salt, 31 of hash.
const HASH_BYTES: usize = 60;

/// The fields that may be set, and where that is a list, to what.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// `None`: plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Who is let in, by name. Nobody is asked where it is empty.
    pub users: BTreeMap<String, PasswordHash>,
    /// Fields of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// HTTP/2 is asked for, which is not served.
    pub wants_http2: bool,
}

impl WebConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn from_file(path: &Path) -> Result<Self, UsageError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let cause = format!("cannot read {} ({error})", path.display());
            Fault::new(cause, "name a YAML file that can be read").at("--web-config")
        })?;
        Self::parse(path, &text)
    }

    /// Validates the text of the file at `path`; relative paths in it begin at the file's folder.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn parse(path: &Path, text: &str) -> Result<Self, UsageError> {
        let mut root = Table::new(yaml::read(path, text)?)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let tls = root.table("tls_server_config")?.map(|table| tls::read(table, folder)).transpose()?;
        let mut http = root.table("http_server_config")?;
        let wants_http2 = http.as_mut().map_or(Ok(None), |http| http.truth("http2"))?.unwrap_or(false);
        let fields = http.as_mut().map_or(Ok(None), |http| http.table("headers"))?;
        http.map_or(Ok(()), Table::end)?;
        let headers = fields.map_or_else(|| Ok(Vec::new()), headers)?;
        let users = root.table("basic_auth_users")?.map_or_else(|| Ok(BTreeMap::new()), users)?;
        root.end()?;
        Ok(Self { tls, users, headers, wants_http2 })
    }
}

fn headers(table: Table) -> Result<Vec<(HeaderName, HeaderValue)>, UsageError> {
    let mut fields = Vec::new();
    for entry in table.into_entries() {
        let Some((name, values)) = HEADERS.iter().find(|(name, _)| *name == entry.key) else {
            let names: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
            let fault = Fault::new("this field cannot be set", format!("known here: {}", names.join(", ")));
            return Err(fault.at(entry.place));
        };
        let place = entry.value.place.clone();
        // Left blank it is not sent.
        let Some(value) = text(entry.value)?.filter(|value| !value.is_empty()) else { continue };
        if !values.is_empty() && !values.contains(&value.as_str()) {
            return Err(
                Fault::new(format!("unknown value `{value}`"), format!("write {}", values.join(" or "))).at(place)
            );
        }
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
        let wrong = || Fault::new("this is no value of a header field", "write one line of text").at(place);
        fields.push(field.ok_or_else(wrong)?);
    }
    Ok(fields)
}

fn users(table: Table) -> Result<BTreeMap<String, PasswordHash>, UsageError> {
    let mut users = BTreeMap::new();
    for entry in table.into_entries() {
        // RFC 7617 2: the first colon ends the name.
        if entry.key.contains(|character: char| character == ':' || character.is_control()) {
            return Err(Fault::new("no user can be called so", "leave colons out").at(entry.place));
        }
        let place = entry.value.place.clone();
        let hash = PasswordHash::parse(&text(entry.value)?.unwrap_or_default()).map_err(|fault| fault.at(place))?;
        users.insert(entry.key, hash);
    }
    Ok(users)
}

/// A bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Never shows the text: it may be a password.
    fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |cause: &str| Fault::new(cause, "make one with `htpasswd -nBC 10 USER`");
        let parts = ["$2y$", "$2b$", "$2a$"].into_iter().find_map(|kind| text.strip_prefix(kind)?.split_once('$'));
        let in_shape =
            |rest: &str| rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
        let parts = parts.filter(|(cost, rest)| {
            // A number may be parsed with a sign.
            cost.len() == 2 && !cost.contains('+') && in_shape(rest) && text.len() == HASH_BYTES
        });
        let cost = parts.and_then(|(cost, _)| cost.parse().ok()).ok_or_else(|| fault("this is no bcrypt hash"))?;
        if !COSTS.contains(&cost) {
            let (least, most) = (COSTS.start(), COSTS.end());
            return Err(fault(&format!("the hash has the cost {cost}, outside of {least} to {most}")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}
