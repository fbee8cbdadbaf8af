//! Addresses and interfaces of this machine, by netlink (rtnetlink(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::frame::Mac;
use crate::limits::{LIST_PAUSE, LIST_TRIES, NETLINK_TIMEOUT};

#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
    /// The kernel refuses a second list on a socket while it writes the first one (EBUSY, netlink(7)).
    lists: Arc<Mutex<()>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    /// Administratively up, with a carrier.
    pub up: bool,
    pub loopback: bool,
    /// Frames received since it exists.
    pub received: u64,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub interface: u32,
    pub ip: IpAddr,
    pub prefix: u8,
}

impl Netlink {
    /// Also says when an interface or an address changed, and the tasks that work in the background.
    pub fn open() -> io::Result<(Self, mpsc::Receiver<()>, Vec<JoinHandle<()>>)> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (watcher, _, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
        let (changed, changes) = mpsc::channel(1);
        let tasks = vec![
            tokio::spawn(connection),
            tokio::spawn(watcher),
            tokio::spawn(async move {
                use futures_util::StreamExt;
                while messages.next().await.is_some() {
                    // One that waits already stands for this one too.
                    if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
                        return;
                    }
                }
            }),
        ];
        let lists = Arc::default();
        Ok((Self { handle, lists }, changes, tasks))
    }

    pub async fn interfaces(&self) -> Result<Vec<Interface>, String> {
        let list = || self.handle.link().get().execute().try_collect();
        let links: Vec<LinkMessage> = (self.list(list).await)
            .map_err(|problem| format!("cannot list interfaces: {problem}"))?;
        Ok(links.iter().map(interface).collect())
    }

    pub async fn addresses(&self) -> Result<Vec<Local>, String> {
        let list = || self.handle.address().get().execute().try_collect();
        let messages: Vec<AddressMessage> = (self.list(list).await)
            .map_err(|problem| format!("cannot list addresses: {problem}"))?;
        Ok(messages.iter().filter_map(local).collect())
    }

    /// One list at a time. One whose reader gave up may still be under way: then again a little later.
    async fn list<T, F>(&self, list: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, rtnetlink::Error>>,
    {
        let _turn = self.lists.lock().await;
        let patient = async {
            for _ in 0..LIST_TRIES {
                match list().await {
                    Err(error) if is_busy(&error) => sleep(LIST_PAUSE).await,
                    listed => return listed,
                }
            }
            list().await
        };
        bounded(patient).await
    }

    /// Adds the address alone (/32 or /128), or sets its lifetime anew. The kernel removes it after
    /// `seconds`.
    pub async fn replace(&self, interface: u32, ip: IpAddr, seconds: u32) -> Result<(), String> {
        let mut request = self.handle.address().add(interface, ip, host_prefix(ip));
        let attributes = &mut request.message_mut().attributes;
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        lifetime.ifa_preferred = match ip {
            IpAddr::V4(_) => seconds,
            // Deprecated: this server's own connections shall not come from an address that moves.
            IpAddr::V6(_) => 0,
        };
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        if ip.is_ipv6() {
            // The probe was ours, and waiting a second for the kernel's is too long.
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        bounded(request.replace().execute())
            .await
            .map_err(|problem| format!("cannot add {ip}: {problem}"))
    }

    /// Removes the address alone from whatever interface has it, and proves that it is gone.
    ///
    /// Whether there was one.
    pub async fn remove(&self, ip: IpAddr, guess: Option<u32>) -> Result<bool, String> {
        let mut removed = false;
        // Without looking first: this is what must not be late.
        if let Some(index) = guess {
            removed |= self.delete(index, ip).await.is_ok();
        }
        let mut last = None;
        for _ in 0..2 {
            let left = self.host_addresses(ip).await?;
            if left.is_empty() {
                return Ok(removed);
            }
            for address in left {
                match self.delete(address.interface, ip).await {
                    Ok(()) => removed = true,
                    Err(problem) => last = Some(problem),
                }
            }
        }
        match self.host_addresses(ip).await?.is_empty() {
            true => Ok(removed),
            false => Err(last.unwrap_or_else(|| format!("{ip} is still there"))),
        }
    }

    /// Where the address alone is. On a loopback interface it is somebody else's business (direct
    /// routing).
    pub async fn host_addresses(&self, ip: IpAddr) -> Result<Vec<Local>, String> {
        let mut found: Vec<_> = self.addresses().await?;
        found.retain(|address| address.ip == ip && address.prefix == host_prefix(ip));
        if !found.is_empty() {
            let interfaces = self.interfaces().await?;
            found.retain(|address| {
                !interfaces
                    .iter()
                    .any(|i| i.index == address.interface && i.loopback)
            });
        }
        Ok(found)
    }

    async fn delete(&self, interface: u32, ip: IpAddr) -> Result<(), String> {
        let message = match ip {
            IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(interface)
                .address(ip, 32)
                .build(),
            IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(interface)
                .address(ip, 128)
                .build(),
        };
        bounded(self.handle.address().del(message).execute())
            .await
            .map_err(|problem| format!("cannot remove {ip}: {problem}"))
    }
}

fn is_busy(error: &rtnetlink::Error) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return false;
    };
    message.to_io().kind() == io::ErrorKind::ResourceBusy
}

pub fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Whether both are in the network of that length.
pub fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let mask = |bits: u128, length: u8, width: u32| {
        bits.checked_shr(width.saturating_sub(u32::from(length)))
            .unwrap_or(0)
    };
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            mask(u128::from(u32::from(a)), prefix, 32) == mask(u128::from(u32::from(b)), prefix, 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            mask(u128::from(a), prefix, 128) == mask(u128::from(b), prefix, 128)
        }
        _ => false,
    }
}

async fn bounded<T>(work: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, String> {
    match timeout(NETLINK_TIMEOUT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the kernel did not answer in time".to_owned()),
    }
}

fn interface(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
        loopback: flags.contains(LinkFlags::Loopback),
        received: 0,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name.clone(),
            LinkAttribute::Address(mac) => {
                interface.mac = mac.as_slice().try_into().ok().map(Mac);
            }
            LinkAttribute::Stats64(stats) => interface.received = stats.rx_packets,
            _ => {}
        }
    }
    interface
}

fn local(message: &AddressMessage) -> Option<Local> {
    // On a point-to-point link `Address` is the other side's.
    let find = |own: bool| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) if own => Some(*ip),
            AddressAttribute::Address(ip) if !own => Some(*ip),
            _ => None,
        })
    };
    Some(Local {
        interface: message.header.index,
        ip: find(true).or_else(|| find(false))?,
        prefix: message.header.prefix_len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (a, b, prefix, same) in [
            ("10.0.0.1", "10.0.0.100", 24, true),
            ("10.0.0.1", "10.0.1.100", 24, false),
            ("10.0.0.1", "10.0.0.2", 32, false),
            ("10.0.0.1", "11.0.0.1", 0, true),
            ("2001:db8::1", "2001:db8::64", 64, true),
            ("2001:db8:1::1", "2001:db8::64", 64, false),
            ("10.0.0.1", "2001:db8::64", 0, false),
        ] {
            assert_eq!(same_network(ip(a), ip(b), prefix), same, "{a} {b} {prefix}");
        }
    }
}
