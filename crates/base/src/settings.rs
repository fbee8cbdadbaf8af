//! Settings of PostgreSQL that are not the operator's to make.

const OURS: &[&str] = &[
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "lc_messages",
    "listen_addresses",
    "log_destination",
    "log_directory",
    "log_filename",
    "logging_collector",
    "max_replication_slots",
    "max_wal_senders",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "restart_after_crash",
    "ssl",
    "synchronous_standby_names",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
    "wal_log_hints",
];

/// Whether Trilith decides that setting of postgresql.conf: it follows from the rest of the configuration,
/// or its change would break replication, fencing, rewinding or adoption.
pub fn is_set_by_trilith(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("recovery_target") || name.starts_with("ssl_")
}
