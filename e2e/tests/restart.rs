//! What a demo wrote is there the next time.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Demo, DemoOptions};

#[test]
fn entries_survive_a_restart_and_the_config_may_change_between() -> Result<()> {
    let mut demo = Demo::start(DemoOptions::default())?;
    demo.client().post_form(
        "/entries",
        &[("name", "Ada"), ("message", "written in the first run")],
    )?;
    demo.stop()?;

    demo.start_again()?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("written in the first run"), "{page}");
    demo.stop()?;

    demo.edit_config(|config| set_balance(config, "ip-hash"))?;
    demo.run_servers()?;
    let page = demo.client().get("/")?.expect(200)?.text();
    ensure!(page.contains("written in the first run"), "{page}");
    each_client_stays_on_one_server(&demo)?;
    demo.stop_apart()?;
    demo.finish()
}

fn set_balance(config: &mut toml::Table, balance: &str) {
    let routes = config
        .get_mut("site")
        .and_then(|sites| sites.as_array_mut())
        .into_iter()
        .flatten()
        .filter_map(|site| site.get_mut("route")?.as_array_mut())
        .flatten()
        .filter_map(|route| route.as_table_mut())
        .filter(|route| route.contains_key("app"));
    for route in routes {
        route.insert("balance".to_owned(), balance.into());
    }
}

fn each_client_stays_on_one_server(demo: &Demo) -> Result<()> {
    let mut used = BTreeSet::new();
    for i in 0..24 {
        let mut client = demo.client_from(demo.block().client(i));
        let mut servers = BTreeSet::new();
        for _ in 0..5 {
            let answer = client.get("/whoami")?.expect(200)?.json()?;
            servers.insert(answer["server"].as_str().context("no server")?.to_owned());
            client.disconnect();
        }
        ensure!(servers.len() == 1, "client {i} was sent to {servers:?}");
        used.append(&mut servers);
    }
    ensure!(used.len() == 3, "24 clients use only {used:?}");
    Ok(())
}
