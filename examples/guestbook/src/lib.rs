//! Guestbooks: one object each, found by the name of its house.

use serde::{Deserialize, Serialize};
use steading::{Object, methods};

/// The guests of one house.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub struct Guestbook {
    names: Vec<String>,
}

#[methods]
impl Guestbook {
    /// Writes a name into the book and returns how many there are.
    pub async fn sign(&mut self, name: String) -> usize {
        self.names.push(name);
        self.names.len()
    }

    /// Returns everybody who was here.
    pub async fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}
