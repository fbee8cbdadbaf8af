use std::time::Instant;

use super::*;

fn hook(take: &[&str], timeout: Duration) -> Hook {
    let argv = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    Hook {
        me: ServerName::new("one").unwrap(),
        take: argv(take),
        release: argv(&["true"]),
        timeout,
    }
}

fn ip() -> IpAddr {
    "10.0.0.100".parse().unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_program_learns_what_it_is_about() {
    let print = "echo $TRILITH_VIP $TRILITH_SERVER $TRILITH_EPOCH; echo and >&2";
    let hook = hook(&["sh", "-c", print], LONG);
    let output = hook.run(&hook.take, ip(), Some(Epoch(7))).await.unwrap();
    assert_eq!(output, "10.0.0.100 one 7\nand");
}

#[tokio::test]
async fn a_failure_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs");
    let script = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3", file.display());
    let hook = hook(&["sh", "-c", &script], LONG);
    hook.take(ip(), None).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x\nx\nx\n");
}

#[tokio::test]
async fn a_failure_says_why() {
    let failing = hook(&["sh", "-c", "echo no such address; exit 3"], LONG);
    let problem = failing.run(&failing.take, ip(), None).await.unwrap_err();
    assert!(problem.contains("exit status: 3"), "{problem}");
    assert!(problem.contains("no such address"), "{problem}");
    let missing = hook(&["/nonexistent/program"], LONG);
    let problem = missing.run(&missing.take, ip(), None).await.unwrap_err();
    assert!(
        problem.contains("cannot run /nonexistent/program"),
        "{problem}"
    );
}

#[tokio::test]
async fn what_hangs_is_killed_with_its_children() {
    let begin = Instant::now();
    let hook = hook(
        &["sh", "-c", "sleep 600 & sleep 600"],
        Duration::from_millis(200),
    );
    let problem = hook.run(&hook.take, ip(), None).await.unwrap_err();
    assert!(problem.contains("killed"), "{problem}");
    // Not a speed: a child that was left would keep the pipe open for ten minutes.
    assert!(begin.elapsed() < Duration::from_secs(300));
}

#[tokio::test]
async fn much_output_neither_blocks_nor_is_kept() {
    let hook = hook(
        &["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"],
        LONG,
    );
    let output = hook.run(&hook.take, ip(), None).await.unwrap();
    assert_eq!(output.len(), HOOK_OUTPUT_BYTES_MAX);
}
