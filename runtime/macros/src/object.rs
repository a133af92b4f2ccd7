//! `#[derive(Object)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Data, DeriveInput, Ident};

use crate::settings::Settings;

/// Writes the `Object` impl and the handle of a struct.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    if let Err(error) = check(input) {
        return error.into_compile_error();
    }
    let mut errors = Vec::new();
    let settings = Settings::read(&input.attrs, &mut errors);
    let errors = errors.iter().map(syn::Error::to_compile_error);
    let object = object_impl(&input.ident, &settings);
    let handle = handle(input);
    quote! {
        #(#errors)*
        #object
        #handle
    }
}

fn check(input: &DeriveInput) -> syn::Result<()> {
    let name = &input.ident;
    let (kind, span) = match &input.data {
        Data::Struct(_) => ("struct", name.span()),
        Data::Enum(data) => ("enum", data.enum_token.span),
        Data::Union(data) => ("union", data.union_token.span),
    };
    if kind != "struct" {
        return Err(syn::Error::new(
            span,
            format!(
                "an object is a struct: write `struct {name} {{ state: … }}` with the {kind} as a field"
            ),
        ));
    }
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.generics,
            format!(
                "an object type cannot be generic, since one registered name stands for one type: write `struct {name}` with the types that it holds"
            ),
        ));
    }
    Ok(())
}

fn object_impl(name: &Ident, settings: &Settings) -> TokenStream {
    let span = name.span();
    let handle = handle_name(name);
    let type_name = (settings.name.clone()).unwrap_or_else(|| unraw(name));
    // The spans make a missing `Default` or serde impl point at the struct.
    let create = quote_spanned!(span=> <#name as ::core::default::Default>::default());
    let state = if settings.storage {
        quote_spanned!(span=> ::core::option::Option::Some(::steading::__private::messagepack::<#name>()))
    } else {
        quote!(::core::option::Option::None)
    };
    let travel = if settings.transient {
        quote!(::core::option::Option::None)
    } else {
        quote!({
            #[allow(unused_imports, reason = "only for a type that is not serializable")]
            use ::steading::__private::StaysBehind as _;
            <::steading::__private::Probe<#name>>::TRAVEL
        })
    };
    let fields = setting_fields(settings);
    quote! {
        #[automatically_derived]
        impl ::steading::object::Object for #name {
            const TYPE: &'static str = #type_name;
            type Handle = #handle;
            fn create() -> Self {
                #create
            }
            fn settings() -> ::steading::object::TypeSettings {
                #[allow(clippy::needless_update, reason = "written by a macro")]
                ::steading::object::TypeSettings {
                    #fields
                    ..::core::default::Default::default()
                }
            }
            const STATE: ::core::option::Option<::steading::object::StateCodec<Self>> = #state;
            const TRAVEL: ::core::option::Option<::steading::object::StateCodec<Self>> = #travel;
        }
    }
}

fn setting_fields(settings: &Settings) -> TokenStream {
    let duration = |duration: &std::time::Duration| {
        let millis = u64::try_from(duration.as_millis()).expect("it was read as milliseconds");
        quote!(::core::time::Duration::from_millis(#millis))
    };
    let idle = settings.idle.iter().map(duration);
    let mailbox = settings.mailbox.iter();
    let save_every = settings.save_every.iter().map(duration);
    let auto_start =
        (settings.auto_start.iter()).map(|variant| Ident::new(variant, Span::mixed_site()));
    quote! {
        #(idle: #idle,)*
        #(mailbox_len_max: #mailbox,)*
        #(save_every: ::core::option::Option::Some(#save_every),)*
        #(auto_start: ::steading::object::AutoStart::#auto_start,)*
    }
}

fn handle(input: &DeriveInput) -> TokenStream {
    let (name, visibility) = (&input.ident, &input.vis);
    let handle = handle_name(name);
    let (doc, text) = (
        format!("Calls the methods of one [`{name}`] from anywhere. Cheap to clone."),
        handle.to_string(),
    );
    let (methods, conversions) = (handle_methods(&handle), handle_conversions(name, &handle));
    quote! {
        #[doc = #doc]
        #[derive(::core::clone::Clone)]
        #visibility struct #handle(::steading::object::ObjectRef<#name>);

        #methods
        #conversions

        #[automatically_derived]
        impl ::core::fmt::Debug for #handle {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple(#text).field(&self.0.key()).finish()
            }
        }
    }
}

fn handle_methods(handle: &Ident) -> TokenStream {
    quote! {
        #[allow(dead_code, reason = "written by a macro")]
        impl #handle {
            /// Sets how long each call waits for its answer. Default: 10 s.
            #[must_use]
            pub fn with_timeout(self, timeout: ::core::time::Duration) -> Self {
                Self(self.0.with_timeout(timeout))
            }

            /// Returns the object's key.
            ///
            /// # Errors
            ///
            /// Why the ID cannot name an object, if it cannot.
            pub fn key(
                &self,
            ) -> ::core::result::Result<
                &::steading::ids::ObjectKey,
                &::steading::ids::InvalidObjectKey,
            > {
                self.0.key()
            }

            /// Ends the object's activation, if it has one, after the calls that came before.
            ///
            /// # Errors
            ///
            /// `CallError`, which tells whether it may have happened.
            pub async fn deactivate(&self) -> ::core::result::Result<(), ::steading::CallError> {
                self.0.deactivate().await
            }

            /// Deletes the object's stored state, if any, and ends its activation, after the calls
            /// that came before. Deleting what does not exist succeeds.
            ///
            /// # Errors
            ///
            /// `CallError`, which tells whether it may have happened.
            pub async fn delete(&self) -> ::core::result::Result<(), ::steading::CallError> {
                self.0.delete().await
            }
        }
    }
}

fn handle_conversions(name: &Ident, handle: &Ident) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl ::core::convert::From<::steading::object::ObjectRef<#name>> for #handle {
            fn from(object: ::steading::object::ObjectRef<#name>) -> Self {
                Self(object)
            }
        }

        #[automatically_derived]
        impl ::core::convert::AsRef<::steading::object::ObjectRef<#name>> for #handle {
            fn as_ref(&self) -> &::steading::object::ObjectRef<#name> {
                &self.0
            }
        }
    }
}

/// Returns the name of a struct's handle.
pub(crate) fn handle_name(object: &Ident) -> Ident {
    format_ident!("{}Handle", object)
}

/// Returns an identifier as callers write it, without `r#`.
pub(crate) fn unraw(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), Into::into)
}
