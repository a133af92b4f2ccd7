//! `tokio-console`, in programs that were built with the feature `console`.

use steading_settings::LogLayer;

/// Returns what tells `tokio-console` of this process's tasks, at the address in the variable
/// `TOKIO_CONSOLE_BIND` (default `127.0.0.1:6669`).
#[cfg(feature = "console")]
pub(crate) fn console() -> Option<LogLayer> {
    use tracing_subscriber::Layer;

    let layer = console_subscriber::ConsoleLayer::builder();
    Some(layer.with_default_env().spawn().boxed())
}

/// Returns nothing: the program was built without the feature `console`.
#[cfg(not(feature = "console"))]
pub(crate) fn console() -> Option<LogLayer> {
    None
}
