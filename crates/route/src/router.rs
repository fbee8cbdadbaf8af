//! Host to site, path to route.

use std::cmp::Ordering;

use crate::pattern::{PathPattern, is_under};

/// Sites by host name, each with its routes. `T` is what a route carries.
///
/// Immutable once built; put it in a snapshot.
#[derive(Clone, Debug)]
pub struct Router<T> {
    hosts: HostTable<usize>,
    sites: Vec<PathTable<T>>,
}

/// What a request is for.
#[derive(Debug)]
pub struct Match<'a, T> {
    /// As returned by [`RouterBuilder::site`].
    pub site: usize,
    /// Position among the site's routes as given.
    pub route: usize,
    pub pattern: &'a PathPattern,
    pub value: &'a T,
}

impl<T> Clone for Match<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Match<'_, T> {}

impl<T> Router<T> {
    pub fn builder() -> RouterBuilder<T> {
        RouterBuilder::default()
    }

    /// The site for a `Host` value (or `:authority`): port and case do not matter. The default site
    /// where there is one and nothing matches.
    pub fn site(&self, host: &str) -> Option<usize> {
        self.hosts.get(host).copied()
    }

    /// The route of a site for a normal path ([`crate::normalise_path`]).
    pub fn route(&self, site: usize, path: &str) -> Option<Match<'_, T>> {
        let (route, pattern, value) = self.sites.get(site)?.get(path)?;
        Some(Match {
            site,
            route,
            pattern,
            value,
        })
    }

    /// Both steps.
    pub fn find(&self, host: &str, path: &str) -> Option<Match<'_, T>> {
        self.route(self.site(host)?, path)
    }
}

/// Collects what a [`Router`] is made of.
#[derive(Debug)]
pub struct RouterBuilder<T> {
    hosts: Vec<(String, usize)>,
    default_site: Option<usize>,
    sites: Vec<Vec<(PathPattern, T)>>,
}

impl<T> Default for RouterBuilder<T> {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            default_site: None,
            sites: Vec::new(),
        }
    }
}

impl<T> RouterBuilder<T> {
    /// Adds a site; its number counts from 0.
    pub fn site(&mut self, routes: impl IntoIterator<Item = (PathPattern, T)>) -> usize {
        self.sites.push(routes.into_iter().collect());
        self.sites.len() - 1
    }

    /// Lets a host name (without port) lead to a site: its name, and each alias.
    pub fn host(&mut self, host: impl Into<String>, site: usize) -> &mut Self {
        self.hosts.push((host.into(), site));
        self
    }

    /// The site for requests whose host no site has.
    pub fn default_site(&mut self, site: usize) -> &mut Self {
        self.default_site = Some(site);
        self
    }

    pub fn build(self) -> Result<Router<T>, RouterError> {
        Ok(Router {
            hosts: HostTable::new(self.hosts, self.default_site)?,
            sites: self
                .sites
                .into_iter()
                .map(PathTable::new)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Why hosts and routes do not make a router.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    #[error("the host `{0}` is named twice; a host belongs to one site")]
    DuplicateHost(String),
    #[error("the path `{0}` is routed twice in one site; remove one of the routes")]
    DuplicatePath(PathPattern),
}

/// Values by host name.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    /// Lower case, sorted.
    hosts: Vec<(String, T)>,
    default: Option<T>,
}

impl<T> HostTable<T> {
    pub fn new(
        hosts: impl IntoIterator<Item = (String, T)>,
        default: Option<T>,
    ) -> Result<Self, RouterError> {
        let mut hosts: Vec<_> = hosts
            .into_iter()
            .map(|(host, value)| (bare_host(&host).to_ascii_lowercase(), value))
            .collect();
        hosts.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = hosts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(RouterError::DuplicateHost(pair[0].0.clone()));
        }
        Ok(Self { hosts, default })
    }

    /// The value of a host; its port, its case and one trailing dot do not matter.
    pub fn get(&self, host: &str) -> Option<&T> {
        let host = bare_host(host);
        match self
            .hosts
            .binary_search_by(|(known, _)| compare(known, host))
        {
            Ok(at) => Some(&self.hosts[at].1),
            Err(_) => self.default.as_ref(),
        }
    }
}

/// Without port and trailing dot. An IPv6 literal keeps its brackets.
fn bare_host(host: &str) -> &str {
    let name_end = host.rfind(']').map_or(0, |bracket| bracket + 1);
    let end = host[name_end..]
        .find(':')
        .map_or(host.len(), |colon| name_end + colon);
    let host = &host[..end];
    host.strip_suffix('.').unwrap_or(host)
}

/// Orders a lower-case name against one in any case.
fn compare(lower: &str, any: &str) -> Ordering {
    lower
        .bytes()
        .cmp(any.bytes().map(|b| b.to_ascii_lowercase()))
}

/// Values by path pattern. An exact path wins over prefixes, a longer prefix over a shorter one.
#[derive(Clone, Debug)]
pub struct PathTable<T> {
    /// By path.
    exact: Vec<Entry<T>>,
    /// Longest first.
    prefixes: Vec<Entry<T>>,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    /// The path of the pattern, kept apart for comparing.
    path: String,
    pattern: PathPattern,
    position: usize,
    value: T,
}

impl<T> PathTable<T> {
    pub fn new(routes: impl IntoIterator<Item = (PathPattern, T)>) -> Result<Self, RouterError> {
        let mut table = Self {
            exact: Vec::new(),
            prefixes: Vec::new(),
        };
        for (position, (pattern, value)) in routes.into_iter().enumerate() {
            let (list, path) = match &pattern {
                PathPattern::Exact(path) => (&mut table.exact, path.clone()),
                PathPattern::Prefix(path) => (&mut table.prefixes, path.clone()),
            };
            if list.iter().any(|entry| entry.path == path) {
                return Err(RouterError::DuplicatePath(pattern));
            }
            list.push(Entry {
                path,
                pattern,
                position,
                value,
            });
        }
        table.exact.sort_by(|a, b| a.path.cmp(&b.path));
        table
            .prefixes
            .sort_by_key(|entry| std::cmp::Reverse(entry.path.len()));
        Ok(table)
    }

    /// Position as given, pattern and value of what a normal path is routed to.
    pub fn get(&self, path: &str) -> Option<(usize, &PathPattern, &T)> {
        let exact = self
            .exact
            .binary_search_by(|entry| entry.path.as_str().cmp(path));
        let entry = match exact {
            Ok(at) => &self.exact[at],
            Err(_) => self
                .prefixes
                .iter()
                .find(|entry| is_under(path, &entry.path))?,
        };
        Some((entry.position, &entry.pattern, &entry.value))
    }
}

#[cfg(test)]
mod tests;
