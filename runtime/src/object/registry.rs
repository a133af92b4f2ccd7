//! The types a node hosts, and their methods by name. (Skeleton.)

use super::{Method, Methods, Object};

/// A method of `T` without its argument types.
#[derive(Debug)]
pub struct MethodEntry<T> {
    _object: std::marker::PhantomData<fn(T)>,
}

impl<T: Object> MethodEntry<T> {
    /// Makes the entry of a method.
    pub fn of<M: Method<Object = T>>() -> Self {
        Self {
            _object: std::marker::PhantomData,
        }
    }
}

/// The object types that a node hosts.
#[derive(Debug, Default)]
pub struct Registry {}

impl Registry {
    /// Adds a type, in place of one of the same name.
    pub fn register<T: Methods>(&mut self) {
        let _ = T::methods();
    }

    /// Returns the names of the types, sorted.
    pub fn type_names(&self) -> Vec<&'static str> {
        Vec::new()
    }
}
