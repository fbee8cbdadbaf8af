//! What the environment says (the contract of the code base, see README.md).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio_postgres::Config;

#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub server: String,
    pub instance: String,
    pub release: String,
    /// Where writes go: the primary.
    pub database: Config,
    /// Where reads go: a replica, when there is one.
    pub replica: Config,
}

impl Settings {
    pub fn from_env() -> anyhow::Result<Self> {
        let or = |key: &str, default: &str| {
            std::env::var(key)
                .ok()
                .filter(|value| !value.is_empty())
                .unwrap_or(default.to_owned())
        };
        let listen = format!("{}:{}", or("HOST", "127.0.0.1"), or("PORT", "8000"));
        let instance = or("INSTANCE", "web.0");
        let url = std::env::var("DATABASE_URL").context(
            "DATABASE_URL is not set: expected postgresql://user:password@host:port/name",
        )?;
        let replica_url = or("DATABASE_REPLICA_URL", &url);
        Ok(Self {
            listen: listen
                .parse()
                .with_context(|| format!("`{listen}` is not an address"))?,
            server: or("SERVER", "localhost"),
            release: or("RELEASE", "none"),
            database: parse_url("DATABASE_URL", &url, &instance)?,
            replica: parse_url("DATABASE_REPLICA_URL", &replica_url, &instance)?,
            instance,
        })
    }
}

fn parse_url(key: &str, url: &str, instance: &str) -> anyhow::Result<Config> {
    // The message leaves the value out: it holds a password.
    let mut config: Config = url
        .parse()
        .with_context(|| format!("{key} is not a PostgreSQL URL"))?;
    config
        .application_name(instance)
        .connect_timeout(Duration::from_secs(2))
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(5));
    Ok(config)
}
