//! `trilith token`: let a new server in, once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;
use trilith_base::format_duration;

use crate::admin;
use crate::args::{Token, TokenCommand, TokenCreate, TokenList, TokenRevoke};
use crate::failure::{Failure, Outcome};
use crate::terminal;

pub fn run(args: &Token) -> Outcome {
    match &args.command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List(args) => list(args),
        TokenCommand::Revoke(args) => revoke(args),
    }
}

fn create(args: &TokenCreate) -> Outcome {
    let local = admin::local(&args.place)?;
    let wanted = serde_json::json!({
        "server": args.server,
        "ttl_seconds": args.ttl.as_secs(),
    });
    let made = local.call("POST", "/v1/tokens", Some(&wanted))?;
    if args.json {
        return json(&made);
    }
    // Alone on stdout, for `trilith join $(...)`.
    terminal::data(&format!("{}\n", text(&made, "token")));
    terminal::say(&format!(
        "lets {} join once, within {}; on that server:",
        args.server,
        format_duration(args.ttl)
    ));
    terminal::say("  trilith join TOKEN");
    terminal::say(&format!(
        "to take it back: trilith token revoke {}",
        text(&made, "id")
    ));
    Ok(())
}

fn list(args: &TokenList) -> Outcome {
    let local = admin::local(&args.place)?;
    let answer = local.call("GET", "/v1/tokens", None)?;
    if args.json {
        return json(&answer);
    }
    let empty = Vec::new();
    let tokens = answer["tokens"].as_array().unwrap_or(&empty);
    if tokens.is_empty() {
        terminal::say("there are no tokens");
        return Ok(());
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    terminal::data(&table(tokens, now.as_secs()));
    Ok(())
}

/// `now` is in seconds since 1970-01-01T00:00:00Z.
fn table(tokens: &[Value], now: u64) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["TOKEN", "SERVER", "STATE", "MADE", "EXPIRES"]);
    for token in tokens {
        let time = |name: &str| token[name].as_u64().unwrap_or_default();
        let expires = match time("expires").checked_sub(now) {
            Some(left) if left > 0 && text(token, "state") == "valid" => {
                format!("in {}", format_duration(Duration::from_secs(left)))
            }
            _ => "-".to_owned(),
        };
        let age = Duration::from_secs(now.saturating_sub(time("created")));
        table.add_row([
            text(token, "id"),
            text(token, "server"),
            text(token, "state"),
            &format!("{} ago", format_duration(age)),
            &expires,
        ]);
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim()));
    lines.collect()
}

fn revoke(args: &TokenRevoke) -> Outcome {
    let local = admin::local(&args.place)?;
    // What is put into a path has to be harmless there.
    if !args.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let failure = Failure::usage(format!("`{}` is not the id of a token", args.id));
        return Err(failure.next("trilith token list"));
    }
    local.call("DELETE", &format!("/v1/tokens/{}", args.id), None)?;
    terminal::say(&format!("nobody joins with {} any more", args.id));
    Ok(())
}

fn json(value: &Value) -> Outcome {
    // The server's own text, made of JSON.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    terminal::data(&format!("{text}\n"));
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shown_with_what_is_left_of_them() {
        let token = |state, created: u64, expires: u64| {
            serde_json::json!({
                "id": "00000000000000ab", "server": "four", "state": state,
                "created": created, "expires": expires,
            })
        };
        let tokens = [token("valid", 1_000, 4_600), token("used", 400, 4_000)];
        assert_eq!(
            table(&tokens, 1_060),
            "TOKEN             SERVER  STATE  MADE     EXPIRES\n\
             00000000000000ab  four    valid  1m ago   in 59m\n\
             00000000000000ab  four    used   11m ago  -\n"
        );
    }
}
