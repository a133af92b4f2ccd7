//! Routers of several nodes together, over a network in memory on a paused clock.

mod faults;
mod journeys;
mod load;
mod moves;
mod services;
mod traced;
mod transfers;
