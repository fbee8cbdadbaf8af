//! Properties of the codec, on generated messages. `checks` holds the properties themselves, as
//! functions of any bytes; the fuzz targets in `fuzz/` call the same.

mod bodies;
mod checks;
mod encoding;
mod generate;
mod heads;

use proptest::prelude::ProptestConfig;

/// `PROPTEST_CASES` raises the number of cases.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: cases.max(default.cases),
        failure_persistence: None,
        ..default
    }
}
