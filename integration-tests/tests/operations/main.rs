//! What an operator does at night: `steading doctor` before clusters that are broken on purpose, and
//! restoring etcd from a snapshot.

mod doctor;
mod restore;
