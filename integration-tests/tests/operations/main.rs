//! What an operator does at night: `steading doctor` before clusters that are broken on purpose, and
//! restoring etcd from a snapshot, or losing it, nodes that nobody reaches, keys that no lease keeps.

mod doctor;
mod lost;
mod reach;
mod restore;
mod strays;
