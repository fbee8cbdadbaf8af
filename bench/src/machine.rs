//! What the results were measured on.

use std::fs;

/// One line: processor, cores, kernel.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(':')
                .map(|(_, name)| name.trim())
        })
        .unwrap_or("unknown processor");
    let cores = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or("unknown system", |name| name.trim_matches('"'));
    format!("{model}, {cores} cores, {system}, Linux {}", kernel.trim())
}

/// Whether interrupt work done on a task's time is in the task's CPU clock.
pub fn softirq_note() -> &'static str {
    "On loopback the kernel runs the receive path of a packet inside the sender's system call. That \
     time is in the sender's CPU clock, unless the kernel was built with CONFIG_IRQ_TIME_ACCOUNTING. \
     It is treated the same for every server."
}
