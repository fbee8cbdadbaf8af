//! A consistent-hash ring (Karger et al. 1997): a server that goes takes only its own clients with
//! it.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::limits::{RING_POINTS_MAX, RING_POINTS_PER_SERVER};

/// Points on a circle of 64-bit hashes, each owned by a server.
#[derive(Debug, Default)]
pub struct Ring {
    /// Sorted by hash.
    points: Vec<(u64, u16)>,
}

impl Ring {
    /// `servers`: number, key and weight. The key names the server on every edge alike; the number
    /// of points follows the weight.
    pub fn new<'a>(servers: impl Iterator<Item = (u16, &'a str, u32)> + Clone) -> Self {
        let count = servers.clone().count().max(1);
        let total: u64 = servers.clone().map(|(_, _, w)| u64::from(w.max(1))).sum();
        let wanted = (RING_POINTS_PER_SERVER * count).min(RING_POINTS_MAX) as u64;
        let mut points = Vec::with_capacity(wanted as usize + count);
        for (server, key, weight) in servers {
            let base = xxh3_64(key.as_bytes());
            let share = (wanted * u64::from(weight.max(1))).div_ceil(total);
            points.extend((0..share).map(|replica| {
                let hash = xxh3_64_with_seed(&base.to_le_bytes(), replica);
                (hash, server)
            }));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The servers in the order in which they are to be asked for a hash. Names one several times.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, s)| usize::from(*s))
    }
}

#[cfg(test)]
mod tests;
