//! Traces, metrics and logs of Steading's programs, sent by OTLP to a collector.
//!
//! Off unless the variables of the OpenTelemetry standard name a collector ([`OtlpSettings`]). What
//! must hold: a collector that is dead, slow or talks nonsense costs the process nothing but memory
//! within named bounds. What is to be sent waits in a queue of limited length for each kind and is
//! dropped if that is full; a batch that cannot be sent is dropped too; both are counted
//! (`steading_telemetry_items`). Nobody ever waits for a queue, and the end of the process waits
//! for what is left at most [`FLUSH_TIMEOUT`].

mod export;
mod http_client;
mod logs;
mod metrics;
mod openmetrics;
mod queue;
mod settings;
mod spans;
mod transport;
mod variables;

pub use export::{FLUSH_TIMEOUT, Telemetry};
pub use settings::OtlpSettings;
