use super::*;

fn argv(text: &str) -> Vec<String> {
    CommandLine::parse(text)
        .unwrap()
        .argv()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn plain_commands_are_executed_directly() {
    assert_eq!(argv("./bin/server"), ["./bin/server"]);
    assert_eq!(
        argv("  node  server.js --port=80\t-x "),
        ["node", "server.js", "--port=80", "-x"]
    );
    assert_eq!(
        argv("python3 -m app:main,a@b"),
        ["python3", "-m", "app:main,a@b"]
    );
    assert_eq!(argv("./größe"), ["./größe"]);
}

#[test]
fn single_commands_with_shell_characters_are_executed_by_a_shell_that_goes_away() {
    for text in [
        "gunicorn -b $HOST:$PORT app",
        "echo \"a b\"",
        "echo 'a b'",
        "ls *.rs",
        "ls ~",
        "java -jar a\\ b.jar",
        "echo #x",
    ] {
        assert_eq!(
            argv(text),
            ["/bin/sh", "-c", &format!("exec {text}")],
            "{text}"
        );
    }
}

#[test]
fn everything_else_is_left_to_the_shell_as_it_is() {
    for text in [
        "cd app && ./server",
        "a; b",
        "a | b",
        "a > out",
        "FOO=1 ./server",
        "FOO=$BAR ./server",
        "exec ./server",
        "if true; then ./server; fi",
        "(a)",
        ". ./env",
    ] {
        assert_eq!(argv(text), ["/bin/sh", "-c", text], "{text}");
    }
}

#[test]
fn refuses_what_no_process_can_be_started_with() {
    for text in [
        "",
        "   ",
        "a\nb",
        "a\0b",
        &"x".repeat(COMMAND_BYTES_MAX + 1),
    ] {
        assert!(CommandLine::parse(text).is_err());
    }
}
