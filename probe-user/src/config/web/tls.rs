//! How TLS is spoken.

use std::path::{Path, PathBuf};

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{SupportedKxGroup, ring::ALL_CIPHER_SUITES, ring::ALL_KX_GROUPS},
    version::{TLS12, TLS13},
};

use super::table::Table;
use crate::config::{Fault, UsageError};

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Who this server is: certificates (PEM), its own first.
    pub cert_file: PathBuf,
    /// The key that belongs to the first of them (PEM).
    pub key_file: PathBuf,
    /// Which clients are let in.
    pub clients: Clients,
    /// TLS 1.2, 1.3, or both.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// In the order of preference.
    pub suites: Vec<SupportedCipherSuite>,
    /// What keys are agreed on in, in the order of preference.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// The server's order of suites counts, not the client's.
    pub prefers_own_order: bool,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// No.
    Anybody,
    /// A good one.
    Vouched {
        /// Certificates of those who may vouch for clients (PEM).
        ca_file: PathBuf,
        /// Who has none is sent away, too.
        required: bool,
    },
}

/// How strictly clients are looked at, as Go calls it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    NoClientCert,
    VerifyIfGiven,
    RequireAndVerify,
}

/// Relative paths begin at `folder`.
pub(super) fn read(mut table: Table, folder: &Path) -> Result<TlsConfig, UsageError> {
    let place = table.place.clone();
    let cert_file = table.parsed("cert_file", |text| file(folder, text))?;
    let key_file = table.parsed("key_file", |text| file(folder, text))?;
    let ca_file = table.parsed("client_ca_file", |text| file(folder, text))?;
    let policy = table.parsed("client_auth_type", policy)?.unwrap_or(Policy::NoClientCert);
    let oldest = table.parsed("min_version", version)?.unwrap_or(&TLS12);
    let newest = table.parsed("max_version", version)?.unwrap_or(&TLS13);
    let suites = table.list("cipher_suites", suite)?;
    let groups = table.list("curve_preferences", group)?.unwrap_or_else(|| ALL_KX_GROUPS.to_vec());
    let prefers_own_order = table.truth("prefer_server_cipher_suites")?.unwrap_or(true);
    table.end()?;

    let missing = |key: &str| Fault::new(format!("{key} is missing"), "name a PEM file by it").at(place.clone());
    let cert_file = cert_file.ok_or_else(|| missing("cert_file"))?;
    let key_file = key_file.ok_or_else(|| missing("key_file"))?;
    let clients = match (policy, ca_file) {
        (Policy::NoClientCert, None) => Clients::Anybody,
        (Policy::NoClientCert, Some(_)) => {
            let fault =
                Fault::new("client_ca_file has no effect alone", "add client_auth_type: RequireAndVerifyClientCert");
            return Err(fault.at(place));
        }
        (_, None) => return Err(missing("client_ca_file")),
        (policy, Some(ca_file)) => Clients::Vouched { ca_file, required: policy == Policy::RequireAndVerify },
    };
    let within = |version: &SupportedProtocolVersion| {
        // Numbers on the wire, which grow.
        let number = u16::from(version.version);
        (u16::from(oldest.version)..=u16::from(newest.version)).contains(&number)
    };
    let versions: Vec<_> = [&TLS13, &TLS12].into_iter().filter(|version| within(version)).collect();
    if versions.is_empty() {
        let fault = Fault::new("min_version is newer than max_version", "leave one of them out");
        return Err(fault.at(place));
    }
    let suites = suites.map_or_else(|| ALL_CIPHER_SUITES.to_vec(), with_tls13);
    if !suites.iter().any(|suite| versions.contains(&suite.version())) {
        let fault = Fault::new("cipher_suites has none of TLS 1.2, and max_version no other", "add one, or remove it");
        return Err(fault.at(place));
    }
    Ok(TlsConfig { cert_file, key_file, clients, versions, suites, groups, prefers_own_order })
}

/// As in Go a list leaves those of TLS 1.3 as they are.
fn with_tls13(listed: Vec<SupportedCipherSuite>) -> Vec<SupportedCipherSuite> {
    let is_tls13 = |suite: &&SupportedCipherSuite| suite.tls13().is_some();
    let older = listed.into_iter().filter(|suite| suite.tls13().is_none());
    ALL_CIPHER_SUITES.iter().filter(is_tls13).copied().chain(older).collect()
}

fn file(folder: &Path, text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() { Err(Fault::new("the path is empty", "name a PEM file")) } else { Ok(folder.join(text)) }
}

fn policy(text: &str) -> Result<Policy, Fault> {
    let next_step = "write NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert";
    match text {
        "NoClientCert" => Ok(Policy::NoClientCert),
        "VerifyClientCertIfGiven" => Ok(Policy::VerifyIfGiven),
        "RequireAndVerifyClientCert" => Ok(Policy::RequireAndVerify),
        "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
            Err(Fault::new(format!("`{text}` takes certificates that nobody has looked at"), next_step))
        }
        _ => Err(Fault::new(format!("unknown value `{text}`"), next_step)),
    }
}

fn version(text: &str) -> Result<&'static SupportedProtocolVersion, Fault> {
    match text {
        "TLS12" => Ok(&TLS12),
        "TLS13" => Ok(&TLS13),
        "TLS10" | "TLS11" => Err(Fault::new(format!("{text} is broken and not spoken"), "write TLS12 or TLS13")),
        _ => Err(Fault::new(format!("unknown version `{text}`"), "write TLS12 or TLS13")),
    }
}

/// By the names of the standards, which have no version in them.
fn suite(text: &str) -> Result<SupportedCipherSuite, Fault> {
    let name = |suite: &SupportedCipherSuite| suite.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1);
    ALL_CIPHER_SUITES.iter().find(|suite| name(suite) == text).copied().ok_or_else(|| {
        let names: Vec<_> = ALL_CIPHER_SUITES.iter().map(name).collect();
        Fault::new(format!("`{text}` is not spoken"), format!("known here: {}", names.join(", ")))
    })
}

/// By Go's names.
fn group(text: &str) -> Result<&'static dyn SupportedKxGroup, Fault> {
    use rustls::NamedGroup::{X25519, secp256r1, secp384r1};
    const GROUPS: [(&str, rustls::NamedGroup); 3] =
        [("X25519", X25519), ("CurveP256", secp256r1), ("CurveP384", secp384r1)];
    let name = GROUPS.iter().find(|(name, _)| *name == text).map(|(_, name)| *name);
    ALL_KX_GROUPS.iter().find(|group| Some(group.name()) == name).copied().ok_or_else(|| {
        Fault::new(
            format!("`{text}` is not spoken"),
            format!("known here: {}", GROUPS.map(|(name, _)| name).join(", ")),
        )
    })
}
