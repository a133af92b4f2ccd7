//! What an operator does at night: `steading doctor` before clusters that are broken on purpose, and
//! restoring etcd from a snapshot, nodes that nobody reaches.

mod doctor;
mod reach;
mod restore;
