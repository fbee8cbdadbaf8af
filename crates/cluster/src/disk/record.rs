//! How a record lies in the file: checksum, generation, JSON.
//!
//! redb has checksums of its own. These are for what those cannot see: a page of an older
//! generation that a lost write left in place, a record under another's key, a file that redb
//! repaired into less than was acknowledged.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

/// Why a record cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[error("{table} {key}: {problem}")]
pub(crate) struct Damage {
    pub table: &'static str,
    pub key: String,
    pub problem: String,
}

const HEAD: usize = 16;

/// Of a write: the number of commits the file had seen, that one included.
pub(crate) type Generation = u64;

pub(crate) fn seal<T: Serialize>(
    table: &'static str,
    key: &str,
    generation: Generation,
    value: &T,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut record = vec![0; HEAD];
    record[8..HEAD].copy_from_slice(&generation.to_le_bytes());
    serde_json::to_writer(&mut record, value)?;
    let sum = checksum(table, key, &record[8..]);
    record[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(record)
}

pub(crate) fn unseal<T: DeserializeOwned>(
    table: &'static str,
    key: &str,
    record: &[u8],
) -> Result<(Generation, T), Damage> {
    let damage = |problem: String| Damage {
        table,
        key: key.to_owned(),
        problem,
    };
    let (Some(sum), Some(generation), Some(body)) =
        (number(record, 0), number(record, 8), record.get(HEAD..))
    else {
        return Err(damage(format!("cut off after {} bytes", record.len())));
    };
    if sum != checksum(table, key, &record[8..]) {
        return Err(damage("wrong checksum".to_owned()));
    }
    // With the right checksum it is what was written: by a newer release, then.
    let value = serde_json::from_slice(body).map_err(|error| damage(error.to_string()))?;
    Ok((generation, value))
}

fn number(record: &[u8], at: usize) -> Option<u64> {
    let bytes = record.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn checksum(table: &str, key: &str, rest: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    for part in [table.as_bytes(), key.as_bytes(), rest] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}
