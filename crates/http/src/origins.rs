//! The origins and host names that a server accepts.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderValue;
use axum::http::uri::Authority;

/// The origins of pages that may send events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl FromStr for AllowedOrigins {
    type Err = String;

    /// Parses origins separated by commas, or `*` for all.
    fn from_str(list: &str) -> Result<Self, String> {
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
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

    /// Returns the origins as they were given.
    pub fn list(&self) -> &[HeaderValue] {
        &self.0
    }

    /// Returns only the origins that are listed by name, without `*`.
    #[must_use]
    pub fn named(&self) -> Self {
        Self(self.0.iter().filter(|origin| *origin != "*").cloned().collect())
    }

    /// Whether this origin is listed by name. `*` is not the name of an origin.
    pub fn names(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|allowed| allowed != "*" && allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }
}

/// The host names that a server without keys accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    /// In lower case, without ports and brackets.
    names: Vec<String>,
    is_any: bool,
    /// The address that the server is bound to, if it is bound to an address.
    bound: Option<IpAddr>,
}

impl AllowedHosts {
    /// Allows `localhost`, every loopback address, the address that the server is bound to, and the
    /// names of a setting: host names separated by commas, or `*` for all. A server that is bound
    /// to all addresses accepts every address, because it does not know its own. A page can choose
    /// only a name as its host, not an address.
    /// # Errors
    /// An entry that is not a host name.
    pub fn new(bound: &str, names: &str) -> Result<Self, String> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut allowed = Self { names: vec!["localhost".to_owned()], is_any: false, bound: bound.parse().ok() };
        allowed.names.extend(host_name(bound));
        for name in names {
            match host_name(name) {
                _ if name == "*" => allowed.is_any = true,
                Some(host) => allowed.names.push(host),
                None => {
                    let advice = "USS_ALLOWED_HOSTS takes host names like uss.internal, without scheme and port, \
                                  separated by commas, or *";
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

/// Parses a host name or an address without a port or brackets.
fn host_name(name: &str) -> Option<String> {
    let is_host = name.parse::<IpAddr>().is_ok()
        || (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')));
    is_host.then(|| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}
