//! `#[methods]`: reads the block, collects every mistake, and puts the parts together.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, ImplItemFn, ItemImpl, Type, TypePath, Visibility};

use crate::expand;
use crate::object::handle_name;
use crate::signature::{self, Role, Signature};

/// Everything that the block says.
pub(crate) struct Block {
    /// The struct.
    pub(crate) object: TypePath,
    /// Its handle.
    pub(crate) handle: TypePath,
    pub(crate) methods: Vec<Method>,
    pub(crate) activate: Option<Signature>,
    pub(crate) deactivate: Option<Signature>,
}

/// One method for the handle.
pub(crate) struct Method {
    pub(crate) signature: Signature,
    pub(crate) visibility: Visibility,
    /// `doc` and `deprecated`.
    pub(crate) docs: Vec<Attribute>,
    /// `cfg`, which must stand wherever the method is mentioned.
    pub(crate) cfgs: Vec<Attribute>,
}

/// Writes the block as it was, and what the runtime and the handle need beside it.
///
/// A method with a mistake is left out, and so are the follow-up messages it would cause.
pub(crate) fn expand(attribute: &TokenStream, mut item: ItemImpl) -> TokenStream {
    let object = match check_block(attribute, &item) {
        Ok(object) => object,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    let mut errors = Vec::new();
    let block = read_block(object, &mut item, &mut errors);
    let errors = errors.iter().map(syn::Error::to_compile_error);
    let written = expand::block(&block);
    quote! {
        #(#errors)*
        #item
        #written
    }
}

fn check_block(attribute: &TokenStream, item: &ItemImpl) -> syn::Result<TypePath> {
    let fail = |span: Span, message: &str| Err(syn::Error::new(span, message));
    if !attribute.is_empty() {
        return fail(
            attribute.span(),
            "`#[methods]` takes nothing: settings of the type stand in `#[object(…)]` on the struct",
        );
    }
    if let Some((_, path, _)) = &item.trait_ {
        return fail(
            path.span(),
            "`#[methods]` stands on the struct's own block: write `impl Counter { … }`, without a trait",
        );
    }
    let generic = "an object type cannot be generic, since one registered name stands for one type: write `impl Counter { … }`";
    if !item.generics.params.is_empty() {
        return fail(item.generics.span(), generic);
    }
    match &*item.self_ty {
        Type::Path(path) if path.qself.is_none() => match path.path.segments.last() {
            Some(last) if last.arguments.is_none() => Ok(path.clone()),
            Some(_) | None => fail(path.span(), generic),
        },
        other => fail(
            other.span(),
            "write the name of a struct: `impl Counter { … }`",
        ),
    }
}

/// Reads the functions of the block. Takes our own attributes and second definitions out of it:
/// the compiler would tell of those once more.
fn read_block(object: TypePath, item: &mut ItemImpl, errors: &mut Vec<syn::Error>) -> Block {
    let mut block = Block {
        handle: handle_of(&object),
        object,
        methods: Vec::new(),
        activate: None,
        deactivate: None,
    };
    item.items.retain_mut(|item| match item {
        ImplItem::Fn(function) => match block.take(function) {
            Ok(()) => true,
            Err(Refused::AsMethod(error)) => {
                errors.push(error);
                true
            }
            Err(Refused::Altogether(error)) => {
                errors.push(error);
                false
            }
        },
        _ => true, // Constants and the like.
    });
    block
}

/// Why a function is no method, and whether it can stay in the block.
enum Refused {
    AsMethod(syn::Error),
    Altogether(syn::Error),
}

impl Block {
    fn take(&mut self, function: &mut ImplItemFn) -> Result<(), Refused> {
        let role = signature::read(function).map_err(Refused::AsMethod)?;
        if !matches!(role, Role::Helper) {
            expand::quieten(function);
        }
        match role {
            Role::Helper => Ok(()),
            Role::Method(signature) => self.take_method(function, signature),
            Role::Activate(hook) => take_hook(&mut self.activate, hook, "activate"),
            Role::Deactivate(hook) => take_hook(&mut self.deactivate, hook, "deactivate"),
        }
    }

    fn take_method(&mut self, function: &ImplItemFn, signature: Signature) -> Result<(), Refused> {
        let cfgs = attributes(function, &["cfg"]);
        let name = &signature.name;
        // Of methods under `cfg` only the compiler knows whether both are there.
        if cfgs.is_empty()
            && self
                .methods
                .iter()
                .any(|other| other.signature.name == *name)
        {
            return Err(Refused::Altogether(syn::Error::new(
                name.span(),
                format!(
                    "two methods are named `{name}`, and callers have only the name: choose another"
                ),
            )));
        }
        self.methods.push(Method {
            signature,
            visibility: function.vis.clone(),
            docs: attributes(function, &["doc", "deprecated"]),
            cfgs,
        });
        Ok(())
    }
}

fn take_hook(place: &mut Option<Signature>, hook: Signature, name: &str) -> Result<(), Refused> {
    let span = hook.name.span();
    match place.replace(hook) {
        None => Ok(()),
        Some(first) => {
            *place = Some(first);
            Err(Refused::AsMethod(syn::Error::new(
                span,
                format!("a type has one `#[{name}]` hook: call both functions from one"),
            )))
        }
    }
}

fn attributes(function: &ImplItemFn, names: &[&str]) -> Vec<Attribute> {
    let named = |a: &&Attribute| names.iter().any(|name| a.path().is_ident(name));
    function.attrs.iter().filter(named).cloned().collect()
}

/// Returns the handle beside the struct: `shop::Cart` has `shop::CartHandle`.
fn handle_of(object: &TypePath) -> TypePath {
    let mut handle = object.clone();
    if let Some(last) = handle.path.segments.last_mut() {
        last.ident = handle_name(&last.ident);
    }
    handle
}
