//! Smooth weighted round robin as a sequence computed once.
//!
//! nginx's algorithm keeps one number per server and changes all of them at each pick. Its picks
//! repeat after sum(weights) / gcd(weights) steps, so the same sequence can be written down
//! beforehand, and all that workers have to share is a position in it.

use crate::limits::SCHEDULE_MAX;

/// The order in which servers take turns, for one round. `weights` pairs a server with its weight;
/// a weight of 0 counts as 1.
///
/// Weights whose round would be longer than [`SCHEDULE_MAX`] are scaled down, which costs at most
/// half a turn of precision per server.
pub fn smooth_round(weights: &[(u16, u32)]) -> Vec<u16> {
    let weights: Vec<_> = weights.iter().map(|(s, w)| (*s, (*w).max(1))).collect();
    let turns = scale(&weights);
    let total: i64 = turns.iter().map(|(_, t)| *t).sum();
    let mut current = vec![0i64; turns.len()];
    let mut round = Vec::with_capacity(total as usize);
    for _ in 0..total {
        // `best` is the first of the largest, as in nginx.
        let mut best = 0;
        for (i, (_, turns)) in turns.iter().enumerate() {
            current[i] += turns;
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= total;
        round.push(turns[best].0);
    }
    round
}

/// Turns per round: weights without their common divisor, and small enough.
fn scale(weights: &[(u16, u32)]) -> Vec<(u16, i64)> {
    let divisor = weights.iter().fold(0, |d, (_, w)| gcd(d, *w)).max(1);
    let total: u64 = weights.iter().map(|(_, w)| u64::from(*w / divisor)).sum();
    let max = (SCHEDULE_MAX as u64).max(weights.len() as u64);
    weights
        .iter()
        .map(|(server, weight)| {
            let weight = u64::from(weight / divisor);
            let turns = if total <= max {
                weight
            } else {
                (weight * max + total / 2) / total
            };
            (*server, turns.max(1) as i64)
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
