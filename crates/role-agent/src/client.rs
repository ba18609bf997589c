//! HTTP clients of the agent: the sink's, the poster's and the one that fetches tokens.

use crate::Error;
use reqwest::{Client, ClientBuilder, Url, redirect};
use std::time::Duration;

/// A client for `url`.
///
/// It follows no redirect: a POST that turns into a GET on its way would look like a success. It
/// asks the system's proxy, except for this machine itself.
pub(crate) fn client_for(url: &Url, timeout: Duration) -> Result<Client, Error> {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .user_agent(concat!("countersign-agent/", env!("CARGO_PKG_VERSION")));
    let builder = if is_loopback(url) {
        ClientBuilder::no_proxy(builder)
    } else {
        builder
    };
    builder.build().map_err(Error::HttpClient)
}

/// A client for large bodies at the hub: a transfer may take long, a silence may not.
pub(crate) fn client_for_bodies(url: &Url, roots: Option<&[u8]>) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_MAX)
        .user_agent(concat!("countersign-agent/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    if let Some(pem) = roots {
        let roots = reqwest::Certificate::from_pem_bundle(pem);
        for root in roots.map_err(Error::HttpClient)? {
            builder = builder.add_root_certificate(root);
        }
    }
    builder.build().map_err(Error::HttpClient)
}

/// Reads an `http` or `https` URL.
pub(crate) fn parse_url(option: &'static str, text: &str) -> Result<Url, Error> {
    let url =
        Url::parse(text).map_err(|error| Error::option(option, format!("{text}: {error}")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(Error::option(
            option,
            format!("{text} is not an http or https URL"),
        ))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What went wrong with a request, with its causes and without its URL, which may hold secrets.
pub(crate) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

/// Reads at most `bytes_max` of an answer; what is longer is cut.
pub(crate) async fn read_up_to(response: &mut reqwest::Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    // What the answer says beside its status is prose: an answer cut short by the network is still
    // the answer it was.
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
            body.truncate(bytes_max);
            break;
        }
    }
    body
}

/// Time without a byte after which a transfer is begun again where it stopped.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_in_all_its_spellings() {
        for url in [
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://[::1]:7421/acks",
        ] {
            assert!(is_loopback(&parse_url("url", url).unwrap()), "{url}");
        }
        assert!(!is_loopback(
            &parse_url("url", "https://hub.example/").unwrap()
        ));
    }

    #[test]
    fn what_is_no_web_address_is_refused_with_the_option_named() {
        for text in ["hub.example:7420", "ftp://hub.example", "", "/hub"] {
            let error = parse_url("hub_url", text).unwrap_err().to_string();
            assert!(error.starts_with("hub_url: "), "{error}");
        }
    }
}
