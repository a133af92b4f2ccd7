//! The generated parts of `docs/` are up to date. `make docs` writes them.

#[path = "docs/metrics.rs"]
mod metrics;

use std::path::Path;

#[test]
fn s2_26_the_configuration_page_is_what_the_settings_say() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let generated = steading_node::settings::configuration_page();
    if std::env::var_os("STEADING_WRITE_DOCS").is_some() {
        std::fs::write(&page, &generated).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == generated,
        "docs/configuration.md is out of date: run `make docs`"
    );
}
