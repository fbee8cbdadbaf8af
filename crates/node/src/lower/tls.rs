//! Certificates of the sites.

use std::sync::Arc;
use std::time::SystemTime;

use trilith_config::{Config, SiteTls};
use trilith_tls::{Ca, SiteCertificate, load_certificate};

use crate::error::NodeError;

/// One certificate per site that wants one, in the order of the file: issued now by the cluster CA,
/// or read from its files.
pub(crate) fn site_certificates(
    config: &Config,
    ca: &Ca,
    now: SystemTime,
) -> Result<Vec<SiteCertificate>, NodeError> {
    let mut certificates = Vec::new();
    for site in &config.sites {
        let names = std::iter::once(&site.host).chain(&site.aliases);
        let hosts: Vec<String> = names.map(ToString::to_string).collect();
        let certified = match &site.tls {
            SiteTls::Off => continue,
            SiteTls::Internal => ca.issue_site(&hosts, now)?,
            SiteTls::Files { certificate, key } => load_certificate(certificate, key)?,
        };
        certificates.push(SiteCertificate {
            hosts,
            certified: Arc::new(certified),
        });
    }
    Ok(certificates)
}
