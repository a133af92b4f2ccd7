//! The steading program as a library.
