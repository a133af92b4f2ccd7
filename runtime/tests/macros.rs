//! Everything that the macros take. What they refuse is in `ui.rs`.

#![deny(warnings, missing_docs)]

use serde::{Deserialize, Serialize};
use steading::{CallError, Context, Methods, Object, methods};

pub mod shop {
    //! A type whose methods stand in another module than its struct.

    /// A cart.
    #[derive(Debug, Default, serde::Serialize, serde::Deserialize, steading::Object)]
    #[object(
        name = "Basket",
        idle = "1h30m",
        mailbox = 64,
        storage,
        save_every = "300ms",
        auto_start = "shard"
    )]
    pub struct Cart {
        pub(super) items: Vec<Item>,
    }

    /// What lies in a cart.
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub struct Item(pub String);
}

use shop::Item;

/// Hides an `await`, as `tokio::join!` does.
macro_rules! wait_for {
    ($value:expr) => {{
        tokio::task::yield_now().await;
        $value
    }};
}

/// Why something did not work.
#[derive(Debug, Serialize, Deserialize)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

#[methods]
impl shop::Cart {
    const ITEMS_LEN_MAX: usize = 100;

    /// Puts an item into the cart.
    ///
    /// Says how many there are.
    async fn put(&mut self, item: Item) -> Result<usize, Refused> {
        if self.items.len() == Self::ITEMS_LEN_MAX {
            return Err(Refused);
        }
        self.items.push(item);
        Ok(self.items.len())
    }

    pub(crate) fn count(&self) -> usize {
        self.items.len()
    }

    async fn add_all(&mut self, ctx: &Context, mut items: Vec<Item>, r#where: Option<usize>) {
        let _ = (ctx, r#where);
        tokio::task::yield_now().await;
        self.items.append(&mut items);
        let _ = self.put(Item("more".into())).await;
    }

    async fn slow_count(&self, _ctx: &Context) -> usize {
        wait_for!(self).items.len()
    }

    /// `Self` means the struct.
    async fn copy_from(&mut self, other: Self) -> Option<Self> {
        Some(std::mem::replace(self, other))
    }

    async fn item(&self) -> Item {
        Self::default_item()
    }

    #[deprecated(note = "use `count`")]
    fn len(&self) -> usize {
        self.items.len()
    }

    #[cfg(any())]
    async fn not_here(&self, nothing: NoSuchType) {}

    #[private]
    fn borrow<'a, T: From<&'a Item>>(&'a self) -> Option<T> {
        self.items.first().map(T::from)
    }

    fn default_item() -> Item {
        Item(String::new())
    }

    #[activate]
    async fn wake(&mut self, ctx: &Context) -> Result<(), Refused> {
        let _ = (ctx, self.borrow::<ItemRef<'_>>().map(|item| item.0));
        Ok(())
    }

    #[deactivate]
    fn sleep(&mut self) {
        self.items.clear();
    }
}

struct ItemRef<'a>(&'a Item);

impl<'a> From<&'a Item> for ItemRef<'a> {
    fn from(item: &'a Item) -> Self {
        Self(item)
    }
}

/// The smallest: no method, no state.
#[derive(Default, Object)]
struct Nothing;

#[methods]
impl Nothing {}

/// All calls of a handle.
async fn calls(cart: shop::CartHandle) -> Result<(), CallError> {
    let cart: shop::CartHandle = cart.clone().with_timeout(std::time::Duration::from_secs(1));
    let _: Result<usize, Refused> = cart.put(Item("pear".into())).await?;
    let _: usize = cart.count().await?;
    let _: () = cart.add_all(vec![], None).await?;
    let _: usize = cart.slow_count().await?;
    let _: Option<shop::Cart> = cart.copy_from(shop::Cart::default()).await?;
    let _: Item = cart.item().await?;
    let _ = format!("{cart:?} {:?}", cart.key());
    cart.deactivate().await?;
    cart.delete().await
}

#[test]
fn calls_can_be_spawned() {
    fn spawn<T: Send>(_: impl FnOnce(shop::CartHandle) -> T) {}
    spawn(calls);
}

#[test]
fn attributes_become_settings() {
    let settings = shop::Cart::settings();
    assert_eq!(settings.idle.as_secs(), 5400);
    assert_eq!(settings.mailbox_len_max, 64);
    assert_eq!(
        settings.save_every.map(|every| every.as_millis()),
        Some(300)
    );
    assert_eq!(settings.auto_start, steading::object::AutoStart::PerShard);
    assert_eq!((shop::Cart::TYPE, Nothing::TYPE), ("Basket", "Nothing"));
    assert!(Nothing::STATE.is_none());
    assert_eq!(
        Nothing::settings(),
        steading::object::TypeSettings::default()
    );
}

#[test]
fn o13_stored_state_comes_back() {
    let codec = shop::Cart::STATE.expect("it has storage");
    let cart = shop::Cart {
        items: vec![Item("pear".into())],
    };
    let state = (codec.encode)(&cart).expect("serializable");
    assert_eq!(
        (codec.decode)(&state).expect("deserializable").items,
        cart.items
    );
}

#[test]
fn each_method_and_hook_is_registered() {
    assert_eq!(shop::Cart::methods().len(), 7);
    assert!(shop::Cart::ACTIVATE.is_some() && shop::Cart::DEACTIVATE.is_some());
    assert!(Nothing::ACTIVATE.is_none() && Nothing::DEACTIVATE.is_none());
    assert!(Nothing::methods().is_empty());
}
