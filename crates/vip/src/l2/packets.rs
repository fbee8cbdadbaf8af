//! One packet socket and everybody who wants to know what is said there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::frame::{self, Mac, Sighting};
use super::socket::{Family, PacketSocket};
use crate::limits::SIGHTINGS_MAX;

pub struct Packets {
    socket: Arc<PacketSocket>,
    mac: Mac,
    family: Family,
    sightings: broadcast::Sender<Sighting>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

pub struct Sightings(broadcast::Receiver<Sighting>);

impl Packets {
    pub fn open(interface: u32, mac: Mac, family: Family) -> io::Result<Arc<Self>> {
        let socket = Arc::new(PacketSocket::open(interface, family)?);
        let (sightings, _) = broadcast::channel(SIGHTINGS_MAX);
        let reader = tokio::spawn(read(socket.clone(), mac, sightings.clone()));
        Ok(Arc::new(Self {
            socket,
            mac,
            family,
            sightings,
            tasks: Mutex::new(vec![reader]),
        }))
    }

    /// Of the interface.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether it still hears anything: an interface that is removed ends its sockets.
    pub fn works(&self) -> bool {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .first()
            .is_some_and(|reader| !reader.is_finished())
    }

    pub fn listen(&self) -> Sightings {
        Sightings(self.sightings.subscribe())
    }

    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }

    /// The task ends with this.
    pub fn own(&self, task: JoinHandle<()>) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
    }
}

impl Sightings {
    /// `None` when the socket is closed. Under a flood some are missed.
    pub async fn next(&mut self) -> Option<Sighting> {
        loop {
            match self.0.recv().await {
                Ok(sighting) => return Some(sighting),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

async fn read(socket: Arc<PacketSocket>, own: Mac, sightings: broadcast::Sender<Sighting>) {
    loop {
        match socket.receive().await {
            Ok(bytes) => {
                // What this interface sends is seen here, too.
                if let Some(sighting) = frame::read(&bytes).filter(|s| s.mac != own) {
                    let _ = sightings.send(sighting);
                }
            }
            // An interface that went down says so once, and works again when it is up.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENETDOWN) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                tracing::info!(%error, "the packet socket of an interface has ended");
                return;
            }
        }
    }
}
