//! Whom the client believes to be the server: TLS, the same for HTTP requests and WebSockets.

use std::sync::{Arc, OnceLock};

use rustls_platform_verifier::{BuilderVerifierExt, Verifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, ClientConfig};

use crate::{Error, Options};

/// How to speak TLS.
pub(crate) type Tls = Arc<ClientConfig>;

/// What the options ask for: a whole configuration, the platform's store and more, or that store alone.
pub(crate) fn from_options(options: &Options) -> Result<Tls, Error> {
    let made = match (&options.tls, &options.extra_roots[..]) {
        (Some(tls), _) => Ok(Arc::clone(tls)),
        (None, []) => platform(),
        (None, extra) => with_extra_roots(extra),
    };
    made.map_err(|error| Error::Options {
        detail: format!("TLS cannot be set up: {error}"),
    })
}

/// Reads the certificates of a PEM file; at least one must be there.
pub(crate) fn read_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::Options {
            detail: "there is no certificate in the PEM text".into(),
        }),
        Err(error) => Err(Error::Options {
            detail: format!("the PEM text cannot be read: {error}"),
        }),
    }
}

/// The upgrade to a WebSocket exists in HTTP/1.1 only, so nothing else may be agreed on.
pub(crate) fn for_websocket(tls: &Tls) -> Tls {
    let mut config = ClientConfig::clone(tls);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Trusts what the operating system trusts. Reading its certificates takes long, so it is done once.
fn platform() -> Result<Tls, rustls::Error> {
    static PLATFORM: OnceLock<Result<Tls, rustls::Error>> = OnceLock::new();
    PLATFORM
        .get_or_init(|| {
            let config = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_platform_verifier()?
                .with_no_client_auth();
            Ok(Arc::new(config))
        })
        .clone()
}

/// The same, and these authorities besides.
fn with_extra_roots(extra: &[CertificateDer<'static>]) -> Result<Tls, rustls::Error> {
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider())?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        // "Dangerous" is any verifier that is not the library's own; this one is the platform's.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
