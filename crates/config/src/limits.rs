//! How much one file may say. A hand-written file never comes near.

/// Longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most `[[server]]` tables.
pub const SERVERS_MAX: usize = 32;
/// Most floating addresses.
pub const ADDRESSES_MAX: usize = 16;
/// Most endpoints of `cluster.store`.
pub const ENDPOINTS_MAX: usize = 16;
/// Most words of a hook's command line.
pub const HOOK_WORDS_MAX: usize = 64;
/// Most `[[site]]` tables.
pub const SITES_MAX: usize = 1_000;
/// Most `[[site.route]]` tables of all sites together.
pub const ROUTES_MAX: usize = 10_000;
/// Most `[app.NAME]` tables.
pub const APPS_MAX: usize = 100;
/// Most `[[upstream]]` tables.
pub const UPSTREAMS_MAX: usize = 1_000;
/// Most items of one list, and entries of one free-form table such as `env`.
pub const ITEMS_MAX: usize = 1_000;
/// Errors and warnings that are kept; the rest is only counted.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Longest `run` line of an app, in bytes.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Most settings in `database.parameters`.
pub const PARAMETERS_MAX: usize = 200;
/// Longest value of one of them, in bytes.
pub const PARAMETER_BYTES_MAX: usize = 1_000;
