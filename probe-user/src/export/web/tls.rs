//! The side of TLS that answers.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::Files;
use crate::config::{Clients, TlsConfig};

pub(super) fn server(config: &TlsConfig, files: &Files) -> Result<ServerConfig> {
    let TlsConfig { cert_file, key_file, clients, versions, suites, groups, prefers_own_order } = config;
    let provider =
        CryptoProvider { cipher_suites: suites.clone(), kx_groups: groups.clone(), ..ring::default_provider() };
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).context("put TLS versions and cipher suites together")?;
    let builder = match clients {
        Clients::Anybody => builder.with_no_client_auth(),
        Clients::Vouched { ca_file, required } => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca_file, &files.authorities)? {
                roots.add(certificate).with_context(|| format!("{} vouches for nobody", ca_file.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().context("verify clients' certificates")?)
        }
    };
    let chain = certificates(cert_file, &files.certificates)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|error| {
        // An error may tell what stands in the file, which here is nobody's business.
        let cause = match error {
            rustls::pki_types::pem::Error::NoItemsFound => "no private key without a password in PEM form",
            _other => "no PEM file",
        };
        anyhow!("{} holds {cause}", key_file.display())
    })?;
    let mut server = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("{} and {} do not go together", cert_file.display(), key_file.display()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    server.ignore_client_order = *prefers_own_order;
    Ok(server)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.with_context(|| format!("{} is no PEM file of certificates", path.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate in PEM form", path.display());
    Ok(found)
}
