//! What a cluster says of itself while something is broken: no figure is repeated that is no longer
//! known, and `/ready`, `doctor`, `status` and `explain` agree with what callers experience.

mod faults;
mod resources;
mod silent;
mod store;
