//! What `#[object(…)]` says.

use std::time::Duration;

use syn::meta::ParseNestedMeta;
use syn::{Attribute, LitInt, LitStr};

use crate::duration;

/// What the attributes of one struct say. `None`: the default of the runtime.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) name: Option<String>,
    pub(crate) idle: Option<Duration>,
    pub(crate) mailbox: Option<usize>,
    pub(crate) storage: bool,
    pub(crate) transient: bool,
    pub(crate) save_every: Option<Duration>,
    /// A variant of `steading::object::AutoStart`.
    pub(crate) auto_start: Option<&'static str>,
}

impl Settings {
    /// Reads every `#[object(…)]` among the attributes. What is wrong goes to `errors` and counts
    /// as not written, so that one mistake gives one message.
    pub(crate) fn read(attributes: &[Attribute], errors: &mut Vec<syn::Error>) -> Self {
        let mut settings = Self::default();
        let mut seen = Vec::new();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("object")) {
            let read = attribute.parse_nested_meta(|meta| {
                let key = meta.path.get_ident().map(ToString::to_string);
                let key = key.unwrap_or_default();
                if seen.contains(&key) {
                    errors.push(meta.error(format!("`{key}` is set twice")));
                }
                let set = settings.set(&key, &meta);
                seen.push(key);
                set
            });
            errors.extend(read.err());
        }
        if settings.save_every.is_some() && !settings.storage {
            let attribute = attributes.iter().find(|a| a.path().is_ident("object"));
            errors.push(syn::Error::new_spanned(
                attribute,
                "`save_every` needs `storage`: write `#[object(storage, save_every = \"…\")]`",
            ));
        }
        settings
    }

    fn set(&mut self, key: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        match key {
            "name" => self.name = Some(type_name(&meta.value()?.parse()?)?),
            "idle" => self.idle = Some(duration(&meta.value()?.parse()?)?),
            "mailbox" => self.mailbox = Some(mailbox(&meta.value()?.parse()?)?),
            "storage" => self.storage = true,
            "transient" => self.transient = true,
            "save_every" => self.save_every = Some(duration(&meta.value()?.parse()?)?),
            "auto_start" => self.auto_start = Some(auto_start(&meta.value()?.parse()?)?),
            _ => {
                return Err(meta.error(
                    "unknown attribute: use name, idle, mailbox, storage, save_every, transient or auto_start",
                ));
            }
        }
        Ok(())
    }
}

fn type_name(literal: &LitStr) -> syn::Result<String> {
    let name = literal.value();
    if name.is_empty() || name.contains('/') {
        let message = "a type name must not be empty nor have a slash";
        return Err(syn::Error::new(literal.span(), message));
    }
    Ok(name)
}

fn duration(literal: &LitStr) -> syn::Result<Duration> {
    duration::parse(&literal.value()).map_err(|error| syn::Error::new(literal.span(), error))
}

fn mailbox(literal: &LitInt) -> syn::Result<usize> {
    match literal.base10_parse()? {
        0 => Err(syn::Error::new(
            literal.span(),
            "a mailbox must have room for at least 1 call",
        )),
        len => Ok(len),
    }
}

fn auto_start(literal: &LitStr) -> syn::Result<&'static str> {
    match literal.value().as_str() {
        "cluster" => Ok("PerCluster"),
        "shard" => Ok("PerShard"),
        "node" => Ok("PerNode"),
        _ => Err(syn::Error::new(
            literal.span(),
            "write \"cluster\", \"shard\" or \"node\"",
        )),
    }
}
