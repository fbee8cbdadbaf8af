//! Mode `l2`: the address is added to an interface, with a lifetime that the kernel ends by itself when
//! this process is killed or frozen, and the network is told.

mod frame;
mod hearing;
mod netlink;
mod packets;
mod socket;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout, timeout_at};
use trilith_base::BootTime;
use trilith_telemetry::Telemetry;

use crate::error::Error;
use crate::event::LeftoverRemoved;
use crate::fsm::{Answer, Input};
use crate::limits::{
    ANNOUNCE_AT, ANNOUNCE_EVERY, CLAIM_PAUSE, INTERFACE_LOOK_EVERY, KERNEL_LIFETIME_PERCENT,
    PROBE_ANSWER_WAIT, PROBE_SEND_EVERY, PROBE_SENDS, RELEASE_TURN_WAIT,
};
use crate::options::AddressOptions;

use self::frame::{Kind, Mac, Sighting};
use self::hearing::Hearing;
use self::netlink::{Interface, Netlink};
use self::packets::Packets;
use self::socket::Family;

/// What one network has to do with the addresses.
pub(crate) struct L2 {
    netlink: Netlink,
    option: Option<String>,
    addresses: Vec<AddressOptions>,
    places: Mutex<HashMap<IpAddr, Place>>,
    turns: HashMap<IpAddr, Turn>,
    announcing: Mutex<HashMap<IpAddr, JoinHandle<()>>>,
    /// Of the interfaces of addresses that are watched, by number.
    hearing: Mutex<HashMap<u32, Hearing>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Inputs for the state machine of address number n.
    inputs: mpsc::UnboundedSender<(usize, Input)>,
}

/// Keeps a refresh that is late from bringing back what was removed meanwhile: setting the lifetime of an
/// address that is gone adds it.
#[derive(Default)]
struct Turn {
    here: AtomicBool,
    working: tokio::sync::Mutex<()>,
}

/// Where an address belongs, and how to speak there.
#[derive(Clone)]
struct Place {
    interface: Interface,
    packets: Result<Arc<Packets>, String>,
}

/// Takes addresses of the mode `l2` off this machine, for a process beside the one that holds them: the
/// kernel's own timer may be late by more than a second on an idle machine. Blocks for at most a second or
/// two; to be called outside of any tokio runtime.
///
/// # Errors
/// What is left, and why, for people.
pub fn remove_addresses(addresses: &[IpAddr]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let (netlink, _changes, _tasks) = Netlink::open().map_err(|error| error.to_string())?;
        let mut problems = Vec::new();
        for ip in addresses {
            problems.extend(netlink.remove(*ip, None).await.err());
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems.join("; ")),
        }
    })
}

impl L2 {
    /// Removes what a killed predecessor left behind: whatever served it has ended with it.
    pub async fn start(
        option: Option<String>,
        addresses: Vec<AddressOptions>,
        inputs: mpsc::UnboundedSender<(usize, Input)>,
        telemetry: &Telemetry,
    ) -> Result<Arc<Self>, Error> {
        let (netlink, changes, tasks) =
            Netlink::open().map_err(|source| Error::Netlink { source })?;
        for address in &addresses {
            match netlink.remove(address.ip, None).await {
                Ok(true) => telemetry.emit(&LeftoverRemoved { ip: address.ip }),
                Ok(false) => {}
                // The kernel ends it, and every take sets it anew.
                Err(problem) => tracing::warn!(ip = %address.ip, problem, "address left behind"),
            }
        }
        let this = Arc::new(Self {
            netlink,
            option,
            turns: addresses.iter().map(|a| (a.ip, Turn::default())).collect(),
            addresses,
            places: Mutex::default(),
            announcing: Mutex::default(),
            hearing: Mutex::default(),
            tasks: Mutex::new(tasks),
            inputs,
        });
        this.look().await;
        let looks = tokio::spawn(follow(Arc::downgrade(&this), changes));
        lock(&this.tasks).push(looks);
        Ok(this)
    }

    /// Adds the address, and sees that it is there.
    pub async fn add(&self, ip: IpAddr, until: BootTime, seconds: u32) -> Result<(), String> {
        let place = self.place(ip).ok_or_else(|| self.no_place(ip))?;
        let turn = self.turns.get(&ip).ok_or_else(|| self.no_place(ip))?;
        let working = turn.working.lock().await;
        in_time(until, seconds)?;
        self.netlink
            .replace(place.interface.index, ip, seconds)
            .await?;
        turn.here.store(true, Ordering::SeqCst);
        drop(working);
        match self.netlink.host_addresses(ip).await?.is_empty() {
            false => Ok(()),
            true => Err(format!(
                "{ip} was added to {} and is not there",
                place.interface.name
            )),
        }
    }

    pub async fn refresh(&self, ip: IpAddr, until: BootTime, seconds: u32) -> Result<(), String> {
        let place = self.place(ip).ok_or_else(|| self.no_place(ip))?;
        let turn = self.turns.get(&ip).ok_or_else(|| self.no_place(ip))?;
        let _working = turn.working.lock().await;
        if !turn.here.load(Ordering::SeqCst) {
            return Err("it was released meanwhile".to_owned());
        }
        in_time(until, seconds)?;
        self.netlink
            .replace(place.interface.index, ip, seconds)
            .await
    }

    pub async fn remove(&self, ip: IpAddr) -> Result<(), String> {
        if let Some(task) = lock(&self.announcing).remove(&ip) {
            task.abort();
        }
        if let Some(turn) = self.turns.get(&ip) {
            turn.here.store(false, Ordering::SeqCst);
            // What is being added is added in a moment; what hangs is not waited for.
            let _ = timeout(RELEASE_TURN_WAIT, turn.working.lock()).await;
        }
        let guess = self.place(ip).map(|place| place.interface.index);
        self.netlink.remove(ip, guess).await.map(|_| ())
    }

    /// Asks whether anybody has the address. Takes [`PROBE_ANSWER_WAIT`] when nobody does. Without a mark
    /// the gateways are asked for a sign of life as well, and silence counts only if anything is heard.
    pub async fn probe(&self, ip: IpAddr, marked: bool) -> (Answer, Option<String>) {
        let Some(place) = self.place(ip) else {
            return (Answer::Failed, Some(self.no_place(ip)));
        };
        let packets = match place.packets {
            Ok(packets) if place.interface.up => packets,
            Ok(_) => {
                let problem = format!("{} is down", place.interface.name);
                return (Answer::Failed, Some(problem));
            }
            Err(problem) => return (Answer::Failed, Some(problem)),
        };
        if !marked {
            // Whether they were sent shows in what comes back.
            for gateway in hearing::gateways(&place.interface.name, packets.family()) {
                let _ = packets.send(&frame::probe(packets.mac(), gateway, false));
            }
        }
        let mut sightings = packets.listen();
        let end = Instant::now() + PROBE_ANSWER_WAIT;
        let mut sent = 0;
        loop {
            if sent < PROBE_SENDS {
                if let Err(error) = packets.send(&frame::probe(packets.mac(), ip, marked)) {
                    return (
                        Answer::Failed,
                        Some(format!("cannot send a probe: {error}")),
                    );
                }
                sent += 1;
            }
            let pause = match sent < PROBE_SENDS {
                true => (Instant::now() + PROBE_SEND_EVERY).min(end),
                false => end,
            };
            if let Some(mac) = claim_until(&mut sightings, ip, pause).await {
                return (Answer::Taken, Some(format!("{mac} answers for it")));
            }
            if Instant::now() >= end {
                let deaf = match marked {
                    true => None,
                    false => self.deaf(&place.interface).await,
                };
                return match deaf {
                    Some(problem) => (Answer::Deaf, Some(problem)),
                    None => (Answer::Free, None),
                };
            }
        }
    }

    /// Why silence on that interface means nothing, if so.
    async fn deaf(&self, interface: &Interface) -> Option<String> {
        let name = &interface.name;
        let now = match self.netlink.interfaces().await {
            Ok(all) => all.into_iter().find(|i| i.index == interface.index),
            Err(problem) => return Some(problem),
        };
        let Some(found) = now else {
            return Some(format!("{name} is gone"));
        };
        let now = BootTime::now();
        let mut all = lock(&self.hearing);
        let hearing = all.entry(interface.index).or_default();
        if hearing.heard(found.received, now) {
            return None;
        }
        Some(match hearing.silence(now) {
            Some(silence) => format!("{name} has received nothing for {} s", silence.as_secs()),
            None => format!("{name} receives nothing"),
        })
    }

    /// Tells the network, and again for as long as the address is here: switches forget a port sooner than
    /// routers forget an address.
    pub fn announce(self: &Arc<Self>, ip: IpAddr) {
        let this = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let begin = Instant::now();
            let mut last = Duration::ZERO;
            for at in ANNOUNCE_AT
                .into_iter()
                .chain((1..).map(|n| ANNOUNCE_AT[ANNOUNCE_AT.len() - 1] + ANNOUNCE_EVERY * n))
            {
                last = last.max(at);
                sleep_until(begin + last).await;
                let Some(this) = this.upgrade() else { return };
                let Some(Ok(packets)) = this.place(ip).map(|place| place.packets) else {
                    continue;
                };
                for frame in frame::announcements(packets.mac(), ip) {
                    if let Err(error) = packets.send(&frame) {
                        tracing::info!(%ip, %error, "cannot announce the floating address");
                    }
                }
            }
        });
        if let Some(before) = lock(&self.announcing).insert(ip, task) {
            before.abort();
        }
    }

    fn place(&self, ip: IpAddr) -> Option<Place> {
        lock(&self.places).get(&ip).cloned()
    }

    fn no_place(&self, ip: IpAddr) -> String {
        match &self.option {
            Some(name) => format!("there is no interface {name}: see `interface` under [vip]"),
            None => format!(
                "no interface has an address in the network of {ip}: set `interface` under [vip]"
            ),
        }
    }

    /// Looks where the addresses belong, and tells the state machines.
    async fn look(&self) {
        let (interfaces, locals) = match (
            self.netlink.interfaces().await,
            self.netlink.addresses().await,
        ) {
            (Ok(interfaces), Ok(locals)) => (interfaces, locals),
            (Err(problem), _) | (_, Err(problem)) => {
                tracing::warn!(problem, "cannot look at the interfaces");
                return;
            }
        };
        for (number, address) in self.addresses.iter().enumerate() {
            let index = match &self.option {
                Some(name) => interfaces.iter().find(|i| i.name == *name),
                None => locals
                    .iter()
                    .filter(|local| {
                        local.ip != address.ip
                            && netlink::same_network(local.ip, address.ip, address.prefix)
                    })
                    .find_map(|local| {
                        let same = |i: &&Interface| i.index == local.interface && !i.loopback;
                        interfaces.iter().find(same)
                    }),
            };
            let before = self.place(address.ip);
            let place = index.map(|interface| Place {
                interface: interface.clone(),
                packets: self.packets(interface, address.ip, before.as_ref()),
            });
            let up = place.as_ref().is_some_and(|place| place.interface.up);
            let mut places = lock(&self.places);
            match place {
                Some(place) => places.insert(address.ip, place),
                None => places.remove(&address.ip),
            };
            drop(places);
            let _ = self.inputs.send((number, Input::Link(up)));
        }
    }

    /// The socket there; the one there was, if it still fits.
    fn packets(
        &self,
        interface: &Interface,
        ip: IpAddr,
        before: Option<&Place>,
    ) -> Result<Arc<Packets>, String> {
        let mac = interface
            .mac
            .ok_or_else(|| format!("{} is no Ethernet interface", interface.name))?;
        if let Some(Place {
            interface: old,
            packets: Ok(packets),
        }) = before
            && old.index == interface.index
            && packets.mac() == mac
            && packets.works()
        {
            return Ok(packets.clone());
        }
        let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
        if ip.is_ipv4() {
            quiet_arp(&interface.name);
        }
        let packets = Packets::open(interface.index, mac, family).map_err(|error| {
            format!("cannot open a packet socket on {}: {error}", interface.name)
        })?;
        if let Some(number) = self.addresses.iter().position(|a| a.ip == ip) {
            let watch = watch_claims(packets.listen(), ip, number, self.inputs.clone());
            packets.own(tokio::spawn(watch));
        }
        Ok(packets)
    }
}

impl Drop for L2 {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        let announcing = std::mem::take(&mut *lock(&self.announcing));
        for task in tasks.into_iter().chain(announcing.into_values()) {
            task.abort();
        }
    }
}

/// Looks again after every change, and now and then.
async fn follow(l2: std::sync::Weak<L2>, mut changes: mpsc::Receiver<()>) {
    let mut regularly = interval(INTERFACE_LOOK_EVERY);
    loop {
        tokio::select! {
            change = changes.recv() => if change.is_none() { return },
            _ = regularly.tick() => {}
        }
        let Some(this) = l2.upgrade() else { return };
        this.look().await;
        drop(this);
        // Changes come in bursts; refreshing the addresses is one, too.
        sleep(Duration::from_millis(20)).await;
    }
}

/// What others say about the address while it may be here.
async fn watch_claims(
    mut sightings: packets::Sightings,
    ip: IpAddr,
    number: usize,
    inputs: mpsc::UnboundedSender<(usize, Input)>,
) {
    while let Some(sighting) = sightings.next().await {
        let input = match sighting {
            Sighting { ip: about, .. } if about != ip => continue,
            Sighting {
                kind: Kind::Claim,
                mac,
                ..
            } => {
                tracing::debug!(%ip, %mac, "somebody claims the address");
                Input::Conflict
            }
            Sighting {
                kind: Kind::Probe { marked: true },
                ..
            } => Input::Challenged,
            _ => continue,
        };
        if inputs.send((number, input)).is_err() {
            return;
        }
        // Whoever floods the network fills no queue here.
        sleep(CLAIM_PAUSE).await;
    }
}

async fn claim_until(sightings: &mut packets::Sightings, ip: IpAddr, end: Instant) -> Option<Mac> {
    loop {
        let sighting = timeout_at(end, sightings.next()).await.ok()??;
        if sighting.ip == ip && sighting.kind == Kind::Claim {
            return Some(sighting.mac);
        }
    }
}

/// Late by now: the kernel would keep the address beyond the lease.
fn in_time(until: BootTime, seconds: u32) -> Result<(), String> {
    let lasts = Duration::from_millis(10) * KERNEL_LIFETIME_PERCENT * seconds;
    match BootTime::now() + lasts <= until {
        true => Ok(()),
        false => Err("came to it too late for the lease".to_owned()),
    }
}

/// Other interfaces must not answer for the address, nor this one speak in its name to strangers
/// (ip-sysctl: arp_ignore, arp_announce).
fn quiet_arp(interface: &str) {
    for (setting, least) in [("arp_ignore", 1_u8), ("arp_announce", 2)] {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
        let now = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u8>().ok());
        if now.is_some_and(|now| now >= least) {
            continue;
        }
        if let Err(error) = std::fs::write(&path, least.to_string()) {
            tracing::info!(
                path,
                %error,
                "cannot set it to {least}: with several interfaces in one network set it yourself"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
