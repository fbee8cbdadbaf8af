//! The entries of the guest book, and who in the database answered.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// As many as a page shows.
const NEWEST: i64 = 50;
const NAME_CHARS_MAX: usize = 60;
const MESSAGE_CHARS_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
pub struct Entry {
    pub id: i64,
    pub name: String,
    pub message: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    #[serde(skip)]
    pub age_s: i64,
}

/// What PostgreSQL says of itself.
#[derive(Debug, Serialize)]
pub struct Answerer {
    pub address: String,
    pub port: i32,
    pub in_recovery: bool,
}

/// What the form sends.
#[derive(Debug, Default, Deserialize)]
pub struct NewEntry {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub message: String,
}

impl NewEntry {
    /// The entry as it will be stored, or what to tell the visitor.
    pub fn validate(&self) -> Result<Self, &'static str> {
        let clean = |text: &str| -> String {
            let kept = |c: &char| *c == '\n' || !c.is_control();
            text.replace("\r\n", "\n")
                .chars()
                .filter(kept)
                .collect::<String>()
                .trim()
                .to_owned()
        };
        let name = clean(&self.name).replace('\n', " ");
        let message = clean(&self.message);
        match (name.chars().count(), message.chars().count()) {
            (0, _) => Err("Please tell us your name."),
            (_, 0) => Err("Please write a few words."),
            (length, _) if length > NAME_CHARS_MAX => {
                Err("That name is longer than 60 characters.")
            }
            (_, length) if length > MESSAGE_CHARS_MAX => {
                Err("That message is longer than 1000 characters.")
            }
            _ => Ok(Self { name, message }),
        }
    }
}

// `query_typed` needs one round trip and no named statement, which suits every kind of pooler.

pub async fn newest(client: &Client) -> Result<Vec<Entry>, Error> {
    let sql = "SELECT id, name, message,
            to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS created_at,
            extract(epoch FROM now() - created_at)::bigint AS age_s
        FROM entries ORDER BY id DESC LIMIT $1";
    let rows = client.query_typed(sql, &[(&NEWEST, Type::INT8)]).await?;
    rows.iter()
        .map(|row| {
            Ok(Entry {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                message: row.try_get("message")?,
                created_at: row.try_get("created_at")?,
                age_s: row.try_get("age_s")?,
            })
        })
        .collect()
}

pub async fn insert(client: &Client, entry: &NewEntry) -> Result<(), Error> {
    let sql = "INSERT INTO entries (name, message) VALUES ($1, $2)";
    let values = [(&entry.name, Type::TEXT), (&entry.message, Type::TEXT)];
    let values = values.each_ref().map(|(value, kind)| {
        (
            *value as &(dyn tokio_postgres::types::ToSql + Sync),
            kind.clone(),
        )
    });
    client.query_typed(sql, &values).await?;
    Ok(())
}

pub async fn answerer(client: &Client) -> Result<Answerer, Error> {
    let sql = "SELECT coalesce(host(inet_server_addr()), 'local') AS address,
            coalesce(inet_server_port(), 0) AS port,
            pg_is_in_recovery() AS in_recovery";
    let rows = client.query_typed(sql, &[]).await?;
    let row = &rows[0]; // a SELECT without FROM has exactly one
    Ok(Answerer {
        address: row.try_get("address")?,
        port: row.try_get("port")?,
        in_recovery: row.try_get("in_recovery")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(name: &str, message: &str) -> Result<(String, String), &'static str> {
        let entry = NewEntry {
            name: name.to_owned(),
            message: message.to_owned(),
        };
        entry.validate().map(|entry| (entry.name, entry.message))
    }

    #[test]
    fn keeps_what_people_write_and_drops_what_they_do_not() {
        let good = |name: &str, message: &str| Ok((name.to_owned(), message.to_owned()));
        assert_eq!(
            validate(" Ada ", "hello\r\nworld\n"),
            good("Ada", "hello\nworld")
        );
        assert_eq!(validate("A\nB", "a\u{7}b\0"), good("A B", "ab"));
        assert_eq!(validate("Zoë", "<b>&"), good("Zoë", "<b>&"));
        assert!(validate(&"ü".repeat(60), &"ü".repeat(1_000)).is_ok());
    }

    #[test]
    fn says_what_is_missing() {
        for (name, message) in [
            ("", "x"),
            (" \n", "x"),
            ("x", ""),
            ("x", "\0"),
            (&"x".repeat(61), "x"),
            ("x", &"x".repeat(1_001)),
        ] {
            assert!(validate(name, message).is_err(), "{name:?} {message:?}");
        }
    }
}
