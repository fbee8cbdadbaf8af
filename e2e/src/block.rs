//! Loopback addresses that no other test process uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// A block 127.0.N.0/24. While it exists, no other process gets the same one.
#[derive(Debug)]
pub struct Block {
    number: u8,
    /// The kernel lets go of it however this process ends: a lock without a file.
    _lock: TcpListener,
}

/// Below it are the blocks that people use, such as the demo's 127.0.1.0.
const FIRST: u8 = 20;
const LAST: u8 = 250;
const LOCK_PORT: u16 = 7399;

impl Block {
    pub fn take() -> Result<Self> {
        let count = u32::from(LAST - FIRST) + 1;
        for i in 0..count {
            // Start somewhere else than the neighbours do.
            let offset = std::process::id().wrapping_mul(7).wrapping_add(i) % count;
            let number = FIRST + u8::try_from(offset)?;
            if let Ok(lock) = TcpListener::bind((Ipv4Addr::new(127, 0, number, 254), LOCK_PORT)) {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("all loopback blocks from 127.0.{FIRST}.0 to 127.0.{LAST}.0 are in use");
    }

    /// For `trilith demo --network`.
    pub fn network(&self) -> String {
        self.address(0).to_string()
    }

    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, self.number, last)
    }

    pub fn floating(&self) -> Ipv4Addr {
        self.address(100)
    }

    /// The `i`th address to be a client from.
    pub fn client(&self, i: u8) -> IpAddr {
        self.address(150 + i).into()
    }

    /// Also different for each block, should something listen on all addresses.
    pub fn http_port(&self) -> u16 {
        10_000 + u16::from(self.number) * 10
    }

    pub fn https_port(&self) -> u16 {
        self.http_port() + 1
    }

    pub fn floating_http(&self) -> SocketAddr {
        (self.floating(), self.http_port()).into()
    }

    pub fn floating_https(&self) -> SocketAddr {
        (self.floating(), self.https_port()).into()
    }
}
