//! TLS: one configuration for negotiation and for the WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use signalr_client::{Connection, Error, Options};
use support::soon;
use support::tls::{TlsHub, serve};

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_reached_with_and_without_negotiation() {
    let TlsHub {
        address,
        trusting: tls,
        ..
    } = serve().await;
    for (scheme, skip_negotiation) in [("https", false), ("wss", true)] {
        let options = Options::new(&format!("{scheme}://{address}/hub")).unwrap();
        let options = options.with(|options| {
            options.tls = Some(tls.clone());
            options.skip_negotiation = skip_negotiation;
        });
        let (connection, _incoming) = soon(Connection::connect(options)).await.unwrap();
        let echoed = soon(connection.invoke::<String>("echo", ("hello",))).await;
        assert_eq!(echoed, Ok("hello".into()));
    }
}

#[tokio::test]
async fn a_certificate_nobody_trusts_is_named_as_the_reason() {
    let TlsHub { address, .. } = serve().await;
    for skip_negotiation in [false, true] {
        let options = Options::new(&format!("https://{address}/hub"))
            .unwrap()
            .with(|options| options.skip_negotiation = skip_negotiation);
        let error = soon(Connection::connect(options))
            .await
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn an_authority_can_be_trusted_besides_those_of_the_platform() {
    let hub = serve().await;
    for skip_negotiation in [false, true] {
        let options = Options::new(&format!("https://{}/hub", hub.address)).unwrap();
        let options = options.trust(hub.certificate_pem.as_bytes()).unwrap();
        let options = options.with(|options| options.skip_negotiation = skip_negotiation);
        let (connection, _incoming) = soon(Connection::connect(options)).await.unwrap();
        let echoed = soon(connection.invoke::<String>("echo", ("hello",))).await;
        assert_eq!(echoed, Ok("hello".into()));
    }
}

#[test]
fn what_is_no_certificate_is_refused_at_once() {
    for pem in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        let options = Options::new("https://h/hub").unwrap();
        assert!(matches!(
            options.trust(pem.as_bytes()),
            Err(Error::Options { .. })
        ));
    }
}
