//! What a server remembers of its connections to peers, so that the next one is cheaper.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName as TlsName;
use rustls::sign::CertifiedKey;

use crate::limits::PEER_SESSIONS;

/// Sessions to resume, forgotten when this server's certificate is replaced: the peer takes the
/// certificate of a resumed session from its ticket.
pub(crate) struct Sessions {
    certified: Arc<ArcSwap<CertifiedKey>>,
    current: Mutex<(Arc<CertifiedKey>, Arc<ClientSessionMemoryCache>)>,
}

impl Sessions {
    pub fn new(certified: Arc<ArcSwap<CertifiedKey>>) -> Self {
        let current = Mutex::new((certified.load_full(), new_cache()));
        Self { certified, current }
    }

    /// The sessions that began with today's certificate.
    fn cache(&self) -> Arc<ClientSessionMemoryCache> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let today = self.certified.load();
        if !Arc::ptr_eq(&current.0, &today) {
            *current = (Arc::clone(&today), new_cache());
        }
        Arc::clone(&current.1)
    }
}

fn new_cache() -> Arc<ClientSessionMemoryCache> {
    Arc::new(ClientSessionMemoryCache::new(PEER_SESSIONS))
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: TlsName<'static>, group: NamedGroup) {
        self.cache().set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &TlsName<'_>) -> Option<NamedGroup> {
        self.cache().kx_hint(name)
    }

    // TLS 1.2 is not spoken between peers.
    fn set_tls12_session(&self, _: TlsName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &TlsName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &TlsName<'static>) {}

    fn insert_tls13_ticket(&self, name: TlsName<'static>, value: Tls13ClientSessionValue) {
        self.cache().insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &TlsName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache().take_tls13_ticket(name)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}
