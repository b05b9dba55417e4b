//! Which origins and host names a server answers to.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderValue;
use axum::http::uri::Authority;

/// The origins of pages that may send events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl FromStr for AllowedOrigins {
    type Err = String;

    /// Origins separated by commas, or `*` for all.
    fn from_str(text: &str) -> Result<Self, String> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let origins = origins.map(|origin| {
            let is_origin = origin == "*" || (origin.contains("://") && !origin.ends_with('/'));
            let advice = "USS_ALLOWED_ORIGINS takes origins like https://shop.example, separated by commas, or *";
            HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| format!("`{origin}`: {advice}"))
        });
        Ok(Self(origins.collect::<Result<_, _>>()?))
    }
}

impl AllowedOrigins {
    /// Whether all pages are allowed.
    pub fn is_any(&self) -> bool {
        self.0.iter().any(|origin| origin == "*")
    }

    /// The origins as they were given.
    pub fn list(&self) -> &[HeaderValue] {
        &self.0
    }

    /// Returns the origins that are named one by one: `*` lets every page send events, and nothing else.
    #[must_use]
    pub fn named(&self) -> Self {
        Self(self.0.iter().filter(|origin| *origin != "*").cloned().collect())
    }

    /// Whether this origin is one of those that are named one by one. No page's origin is `*`.
    pub fn names(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|allowed| allowed != "*" && allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }
}

/// The host names that a server without keys answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    /// In lower case, without ports and brackets.
    names: Vec<String>,
    is_any: bool,
    /// What the server is bound to, if that is an address.
    bound: Option<IpAddr>,
}

impl AllowedHosts {
    /// Allows `localhost`, every loopback address, the address that the server is bound to, and the names of a setting: host
    /// names separated by commas, or `*` for all. A server that is bound to all addresses answers to every address, since it
    /// does not know which ones it has; a page cannot choose an address as its host, only a name.
    ///
    /// # Errors
    /// A name that is not a host name.
    pub fn new(bound: &str, names: &str) -> Result<Self, String> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut allowed = Self { names: vec!["localhost".to_owned()], is_any: false, bound: bound.parse().ok() };
        allowed.names.extend(host_name(bound));
        for name in names {
            match host_name(name) {
                _ if name == "*" => allowed.is_any = true,
                Some(host) => allowed.names.push(host),
                None => {
                    let advice = "USS_ALLOWED_HOSTS takes host names like uss.internal, without scheme and port, separated by commas, or *";
                    return Err(format!("`{name}`: {advice}"));
                }
            }
        }
        Ok(allowed)
    }

    /// Whether a request may name this host, with or without a port.
    pub fn allows(&self, authority: &str) -> bool {
        if self.is_any {
            return true;
        }
        let parsed = Authority::from_str(authority).ok().filter(|_| !authority.contains('@'));
        let Some(host) = parsed.as_ref().map(|authority| without_brackets(authority.host())) else { return false };
        if let Ok(address) = host.parse::<IpAddr>() {
            let is_bound = self.bound.is_some_and(|bound| bound == address || bound.is_unspecified());
            return is_bound || address.to_canonical().is_loopback() || self.names.iter().any(|name| name == host);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Reads a host name or an address with nothing around it.
fn host_name(text: &str) -> Option<String> {
    let is_host = text.parse::<IpAddr>().is_ok()
        || (!text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')));
    is_host.then(|| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase())
}
