//! The macros of Steading: `#[derive(Object)]` and `#[methods]`.
//!
//! Use them through the `steading` crate, which re-exports both: what they write names only
//! `::steading` paths. Nothing here runs in a user's program; mistakes are told at compile time,
//! each by one message at the place where the user can mend it.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "syntax trees have more forms than any macro cares about"
)]

mod awaits;
mod duration;
mod expand;
mod methods;
mod object;
mod settings;
mod signature;

use proc_macro::TokenStream;

/// Makes a struct a type of objects, and writes its typed handle.
///
/// The struct is the state of one object. It must implement `Default`, which makes an object that
/// was never called before, and be `Send + Sync + 'static`. For `struct Counter` the macro writes
/// `impl steading::Object for Counter` and `CounterHandle`, as visible as the struct. The handle is
/// cheap to clone; besides the methods that `#[methods]` gives it, it has
///
/// - `with_timeout(self, Duration)`: how long each call waits for its answer (default 10 s);
/// - `key(&self)`: the object's type and ID, or why the ID cannot name an object;
/// - `deactivate(&self)`: ends the activation, after the calls that came before;
/// - `delete(&self)`: deletes the stored state too.
///
/// # Attributes
///
/// All stand in `#[object(…)]` on the struct, separated by commas.
///
/// | attribute | default | meaning |
/// |---|---|---|
/// | `name = "…"` | the struct's name | the registered type name, the first part of each object's key; not empty, no `/` |
/// | `idle = "15m"` | 15 min | deactivate after this long without a call |
/// | `mailbox = 1024` | 1024 | most calls waiting for one object; more are refused as `Overloaded` |
/// | `storage` | off | keep the state: it is loaded at activation and saved before each reply of a `&mut self` method |
/// | `save_every = "300ms"` | off | with `storage`: save at most this often instead, which is faster and may lose that much when a node dies |
/// | `transient` | off | leave the state behind when the object's shard is moved on purpose: it begins anew, or from storage, at the new owner |
/// | `auto_start = "…"` | off | objects that live without being called: `"cluster"` one, with the ID `cluster`; `"shard"` one a shard, `shard#N/auto`; `"node"` one a node, `node#NODE/auto` |
///
/// Durations are numbers with a unit, `ms`, `s`, `m`, `h` or `d`, several in a row if need be:
/// `"1h30m"`. With `storage` the struct must also implement `serde::Serialize` and
/// `serde::Deserialize`; the state is kept as `MessagePack` with named fields, so that fields with
/// `#[serde(default)]` can be added later.
///
/// A struct that implements both goes along when its shard is moved on purpose, with `storage` or
/// without: only a crash, or the end of the activation, loses what is not stored. One that
/// implements neither, or is `transient`, stays behind.
///
/// # Example
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use steading::{Object, methods};
///
/// #[derive(Default, Serialize, Deserialize, Object)]
/// #[object(name = "Basket", idle = "1h30m", mailbox = 64, storage, save_every = "300ms")]
/// struct Cart {
///     items: Vec<String>,
/// }
///
/// #[methods]
/// impl Cart {
///     async fn put(&mut self, item: String) {
///         self.items.push(item);
///     }
/// }
///
/// assert_eq!(<Cart as Object>::TYPE, "Basket");
/// ```
#[proc_macro_derive(Object, attributes(object))]
pub fn derive_object(input: TokenStream) -> TokenStream {
    object::derive(&syn::parse_macro_input!(input)).into()
}

/// Makes the methods of an `impl` block callable from anywhere in the cluster.
///
/// Stands on `impl Counter { … }`, once per type, beside `#[derive(Object)]`. The block is left as
/// it is written; each method also becomes a method of `CounterHandle`, with the same arguments and
/// documentation, that returns `Result<Reply, steading::CallError>`. It is as visible as the
/// method, or as the handle if the method names no visibility.
///
/// # Methods
///
/// - **Receiver**: `&mut self` runs alone on its object; `&self` methods may run together.
/// - **`fn` or `async fn`**, either is called with `.await`. A body without `await` runs as a plain
///   function, which is faster.
/// - **Arguments** are owned types that implement `serde::Serialize` and `serde::Deserialize`, as
///   they may travel to another node. HTTP callers name them, so each needs a name.
/// - **`ctx: &Context`**, anywhere after the receiver, is given by the runtime and is no argument.
/// - **Reply**: any such type, `()` by default. A `Result` is the method's own answer: the handle
///   then returns `Result<Result<T, E>, CallError>`, where the outer error says that the call
///   brought back no answer, and HTTP answers the inner one as a problem.
///
/// # Attributes inside the block
///
/// | attribute | meaning |
/// |---|---|
/// | `#[activate]` | a hook, run before the first turn: `&mut self`, maybe `ctx: &Context`, returns nothing or `Result<(), E>` with `E: Display`; an error fails the activation |
/// | `#[deactivate]` | the same, run after the last turn of an orderly end |
/// | `#[private]` | no method of the handle, only of the struct |
///
/// A function without `self` is a helper and stays one.
///
/// # Example
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use steading::{CallError, Context, Object, methods};
///
/// #[derive(Default, Object)]
/// struct Counter {
///     total: i64,
/// }
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Overflow;
///
/// #[methods]
/// impl Counter {
///     /// Adds `n` and returns the new total.
///     async fn add(&mut self, n: i64) -> Result<i64, Overflow> {
///         self.total = self.total.checked_add(n).ok_or(Overflow)?;
///         Ok(self.total)
///     }
///
///     async fn total(&self) -> i64 {
///         self.total
///     }
///
///     #[activate]
///     fn greet(&mut self, ctx: &Context) {
///         println!("{:?} lives", ctx);
///     }
/// }
///
/// async fn use_it(counter: CounterHandle) -> Result<(), CallError> {
///     if let Ok(total) = counter.add(5).await? {
///         assert_eq!(counter.total().await?, total);
///     }
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn methods(attribute: TokenStream, input: TokenStream) -> TokenStream {
    methods::expand(&attribute.into(), syn::parse_macro_input!(input)).into()
}
