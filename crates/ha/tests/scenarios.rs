//! Scenario files: what one server sees, and what it plans. `scenarios/README.md` says how they are
//! written. With `UPDATE_SCENARIOS=1` the plans in the files are written anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

#[path = "scenarios/parse.rs"]
mod parse;

use parse::Scene;
use trilith_ha::{Plan, Step};

#[test]
fn every_scenario_plans_what_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let (mut situations, mut wrong) = (0, Vec::new());
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    paths.sort();
    let mut firsts = BTreeSet::new();
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let (actual, plans) =
            play(&expected).unwrap_or_else(|bad| panic!("{}: {bad}", path.display()));
        situations += plans;
        let first = expected.lines().next().unwrap_or_default().to_owned();
        assert!(
            first.starts_with("# "),
            "{}: say what it shows",
            path.display()
        );
        assert!(firsts.insert(first), "{}: said before", path.display());
        if update {
            std::fs::write(&path, actual).unwrap();
        } else if actual != expected {
            wrong.push(format!(
                "{}\n{}",
                path.display(),
                difference(&expected, &actual)
            ));
        }
    }
    assert!(situations >= 200, "{situations} situations");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The file with the plans as they are now, and how many there are.
fn play(file: &str) -> Result<(String, usize), String> {
    let mut scene = Scene::default();
    let (mut out, mut plans) = (String::new(), 0);
    for (number, line) in file.lines().enumerate() {
        // What was planned when the file was written.
        if line.starts_with(' ') {
            continue;
        }
        out += line;
        out.push('\n');
        let words = line.split('#').next().unwrap_or_default().trim();
        if words == "plan" {
            let (observed, policy) = scene.observed();
            let plan = trilith_ha::plan(&observed, &policy);
            for line in printed(&plan).lines() {
                out += &format!("    {line}\n");
            }
            plans += 1;
        } else if !words.is_empty() {
            scene
                .say(words)
                .map_err(|bad| format!("line {}: `{line}`: {bad}", number + 1))?;
        }
    }
    Ok((out, plans))
}

/// As an operator sees it, and below each step what it writes to the cluster store.
fn printed(plan: &Plan) -> String {
    let text = plan.to_string();
    let mut lines = text.lines();
    let mut out = format!("{}\n", lines.next().unwrap_or_default());
    for (act, line) in plan.steps.iter().zip(lines) {
        out += &format!("{line}\n");
        let mut more = Vec::new();
        match &act.step {
            Step::TakeLease(take) => {
                more.push(take.record.to_string());
                if !take.reports.is_empty() {
                    let names: Vec<_> =
                        take.reports.iter().map(|(name, _)| name.as_str()).collect();
                    more.push(format!("counts the reports of {}", names.join(", ")));
                }
                if take.fulfils.is_some() {
                    more.push("ends the request".to_owned());
                }
            }
            Step::WriteRecord(written) => more.push(written.value.to_string()),
            Step::GiveUpLease {
                record, fulfils, ..
            } => {
                more.extend(record.iter().map(ToString::to_string));
                if fulfils.is_some() {
                    more.push("ends the request".to_owned());
                }
            }
            _ => {}
        }
        for line in more {
            out += &format!("       = {line}\n");
        }
    }
    out
}

fn difference(expected: &str, actual: &str) -> String {
    let mut lines = expected.lines().zip(actual.lines());
    match lines.position(|(expected, actual)| expected != actual) {
        Some(at) => format!(
            "line {}\n  expected: {}\n  actual:   {}\n--- actual\n{actual}",
            at + 1,
            expected.lines().nth(at).unwrap(),
            actual.lines().nth(at).unwrap()
        ),
        None => format!("one is longer\n--- actual\n{actual}"),
    }
}
