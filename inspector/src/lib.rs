//! The Inspector.
