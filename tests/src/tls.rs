//! TLS as the tests speak it: an authority that vouches for whom they like, and a blocking client inside a namespace.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{
    http::{self, Response},
    namespace::Namespace,
};

/// Largest answer that is read.
const LARGEST: u64 = 64 << 20;

/// Somebody who vouches for others.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Who somebody says that they are, in PEM form.
pub struct Papers {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Vouches for `name`, a host's or an address.
    ///
    /// # Errors
    /// When that cannot be a name.
    pub fn vouch(&self, name: &str) -> Result<Papers> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.0)?;
        Ok(Papers { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Papers {
    /// Certificate and key, as TLS has them.
    ///
    /// # Errors
    /// When they are not in PEM form.
    pub fn parts(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).context("certificate")?;
        Ok((certificate, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("key")?))
    }
}

/// A client: whom it believes, and what it shows.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    /// Believes `authority`, and shows `papers`.
    ///
    /// # Errors
    /// When they are not what they should be.
    pub fn new(authority: &Authority, papers: Option<&Papers>) -> Result<Self> {
        Self::of_versions(&[&TLS13, &TLS12], authority, papers)
    }

    /// As [`Self::new`], of certain versions of TLS.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_versions(
        versions: &[&'static SupportedProtocolVersion],
        authority: &Authority,
        papers: Option<&Papers>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions)?.with_root_certificates(roots);
        let config = match papers {
            None => builder.with_no_client_auth(),
            Some(papers) => {
                let (certificate, key) = papers.parts()?;
                builder.with_client_auth_cert(vec![certificate], key)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Gets `path` from `server`, as seen from inside `namespace`, with additional header fields.
    ///
    /// # Errors
    /// When nobody listens, one does not believe the other, or the answer is not HTTP.
    pub fn get(
        &self,
        namespace: &Namespace,
        server: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response> {
        let connection = ClientConnection::new(Arc::clone(&self.0), server.ip().into())?;
        let mut stream = StreamOwned::new(connection, http::connect(namespace, server)?);
        stream.write_all(http::request(server, path, headers).as_bytes()).context("send the request")?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).context("read the answer")?;
        http::parse(&answer).with_context(|| format!("GET {path}: answer {:?}", String::from_utf8_lossy(&answer)))
    }
}
