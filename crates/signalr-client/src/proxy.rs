//! The way out through an HTTP proxy.
//!
//! Promise: HTTP requests and WebSockets take the same way. `https` targets and every WebSocket go through a tunnel
//! (`CONNECT`), so the proxy sees names and no contents.
//! Left out on purpose: SOCKS, and proxies that want more than a name and a password.

use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Url};

use crate::Error;

/// An HTTP proxy, and which hosts are reached without it.
///
/// Cheap to clone. Neither its credentials nor its address are shown by `Debug`.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

struct Inner {
    http: Option<Url>,
    https: Option<Url>,
    bypass: String,
    matcher: Matcher,
}

/// The proxy for one target.
pub(crate) struct Hop {
    pub(crate) url: Url,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Goes through the proxy at this `http` or `https` address. Name and password may stand in it:
    /// `http://name:password@proxy:3128`, percent-encoded.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when it is no such address.
    pub fn new(url: &str) -> Result<Self, Error> {
        let url = proxy_url(url)?;
        Ok(Self::with(Some(url.clone()), Some(url), String::new()))
    }

    /// Goes the way that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say (or their lower-case names), as
    /// they stand now. `None` when none of the first three is set.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] when one of them is no address of an HTTP proxy.
    pub fn from_environment() -> Result<Option<Self>, Error> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(value: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let first = |names: [&str; 2]| {
            let mut values = names.into_iter().filter_map(&value);
            values.find(|value| !value.is_empty())
        };
        let parse = |text: Option<String>| text.as_deref().map(proxy_url).transpose();
        let all = parse(first(["ALL_PROXY", "all_proxy"]))?;
        let http = parse(first(["HTTP_PROXY", "http_proxy"]))?.or_else(|| all.clone());
        let https = parse(first(["HTTPS_PROXY", "https_proxy"]))?.or(all);
        if http.is_none() && https.is_none() {
            return Ok(None);
        }
        let bypass = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Ok(Some(Self::with(http, https, bypass)))
    }

    /// Reaches these hosts without the proxy: names (with all that lies below them), addresses, networks such as
    /// `10.0.0.0/8`, separated by commas; `*` for all. What curl reads from `NO_PROXY`.
    #[must_use]
    pub fn bypass(self, hosts: &str) -> Self {
        let Inner { http, https, .. } = &*self.inner;
        Self::with(http.clone(), https.clone(), hosts.to_owned())
    }

    fn with(http: Option<Url>, https: Option<Url>, bypass: String) -> Self {
        let text = |url: &Option<Url>| url.as_ref().map(Url::to_string).unwrap_or_default();
        let matcher = Matcher::builder()
            .http(text(&http))
            .https(text(&https))
            .no(bypass.clone())
            .build();
        let inner = Inner {
            http,
            https,
            bypass,
            matcher,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The proxy through which `target` is reached; `None` when it is reached directly.
    pub(crate) fn hop(&self, target: &Url) -> Option<Hop> {
        let uri: Uri = target.as_str().parse().ok()?;
        let authorization = self.inner.matcher.intercept(&uri)?.basic_auth().cloned();
        let url = match target.scheme() {
            "https" => self.inner.https.clone(),
            _ => self.inner.http.clone(),
        };
        Some(Hop {
            url: url?,
            authorization,
        })
    }

    /// Sends an HTTP client the same way.
    pub(crate) fn apply(
        &self,
        mut builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, Error> {
        let wrong = |error: reqwest::Error| Error::Options {
            detail: format!("the proxy cannot be used: {}", error.without_url()),
        };
        let bypass = || NoProxy::from_string(&self.inner.bypass);
        if let Some(url) = &self.inner.http {
            let proxy = reqwest::Proxy::http(url.clone()).map_err(wrong)?;
            builder = builder.proxy(proxy.no_proxy(bypass()));
        }
        if let Some(url) = &self.inner.https {
            let proxy = reqwest::Proxy::https(url.clone()).map_err(wrong)?;
            builder = builder.proxy(proxy.no_proxy(bypass()));
        }
        Ok(builder)
    }
}

/// Shows that there is one: address and credentials are secrets.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// As curl reads it, an address without a scheme is an HTTP one.
fn proxy_url(text: &str) -> Result<Url, Error> {
    let text = text.trim();
    let full = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    match Url::parse(&full) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        // The text may hold a password, so it is not repeated.
        _ => Err(Error::Options {
            detail: "the proxy's address must begin with http or https and name a host".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(proxy: &Proxy, target: &str) -> Option<String> {
        let hop = proxy.hop(&Url::parse(target).unwrap())?;
        Some(hop.url.host_str().unwrap().to_owned())
    }

    #[test]
    fn a_proxy_takes_all_but_what_is_exempt() {
        let proxy = Proxy::new("proxy:3128")
            .unwrap()
            .bypass("local, 10.0.0.0/8");
        assert_eq!(hop(&proxy, "https://far/hub").as_deref(), Some("proxy"));
        assert_eq!(hop(&proxy, "http://far/hub").as_deref(), Some("proxy"));
        assert_eq!(hop(&proxy, "http://local/hub"), None);
        assert_eq!(hop(&proxy, "http://a.local/hub"), None);
        assert_eq!(hop(&proxy, "https://10.1.2.3/hub"), None);
    }

    #[test]
    fn the_environment_names_one_for_each_kind_of_target() {
        let variables = |name: &str| match name {
            "https_proxy" => Some("http://secure:1".to_owned()),
            "ALL_PROXY" => Some("http://rest:1".to_owned()),
            "NO_PROXY" => Some("near".to_owned()),
            _ => None,
        };
        let proxy = Proxy::from_variables(variables).unwrap().unwrap();
        assert_eq!(hop(&proxy, "https://far/").as_deref(), Some("secure"));
        assert_eq!(hop(&proxy, "http://far/").as_deref(), Some("rest"));
        assert_eq!(hop(&proxy, "http://near/"), None);
        assert!(Proxy::from_variables(|_| None).unwrap().is_none());
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let proxy = Proxy::new("http://Aladdin:open%20sesame@proxy:1").unwrap();
        let hop = proxy.hop(&Url::parse("https://far/").unwrap()).unwrap();
        assert_eq!(
            hop.authorization.unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert!(!format!("{proxy:?}").contains("sesame"));
        let error = Proxy::new("socks5://Aladdin:sesame@proxy:1").unwrap_err();
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}
