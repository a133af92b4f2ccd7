//! Writes what stands beside a `#[methods]` block.
//!
//! For `async fn add(&mut self, n: i64) -> i64` of `Counter`, the second of its block:
//!
//! ```text
//! const _: () = {
//!     struct __Types;                                    // makes each bad type one error, there:
//!     impl Argument<1, 0> for __Types { type Type = i64; }
//!     struct __add<A: Argument<1, 0>> { n: Wire<<A as Argument<1, 0>>::Type> }
//!     impl Method for __add<__Types> { type Object = Counter; type Reply = Wire<i64>; … }
//!     impl CounterHandle {
//!         pub async fn add(&self, n: i64) -> Result<i64, CallError> { … }
//!     }
//!     impl Methods for Counter { … }
//! };
//! ```
//!
//! The names begin with underscores because the block sees, and must not hide, the user's names.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Ident, ImplItemFn, TypePath, parse_quote};

use crate::methods::{Block, Method};
use crate::object::unraw;
use crate::signature::{Access, Input, Run, Signature};

/// Writes everything for a block.
pub(crate) fn block(block: &Block) -> TokenStream {
    let methods = block.methods.iter().enumerate();
    let calls = methods.map(|(index, method)| call(block, index, method));
    let handle = &block.handle;
    let handle_methods = block
        .methods
        .iter()
        .map(|method| handle_method(block, method));
    let methods_impl = methods_impl(block);
    quote! {
        #[allow(
            dead_code, deprecated, missing_docs, non_camel_case_types, private_interfaces,
            unreachable_pub, clippy::all, clippy::pedantic,
            reason = "written by a macro"
        )]
        const _: () = {
            struct __Types;
            #(#calls)*
            impl #handle {
                #(#handle_methods)*
            }
            #methods_impl
        };
    }
}

/// Keeps lints quiet about what `#[methods]` asks for: `async` for its own sake, owned arguments.
pub(crate) fn quieten(function: &mut ImplItemFn) {
    function.attrs.push(parse_quote! {
        #[allow(
            clippy::unused_async, clippy::needless_pass_by_value,
            reason = "a method of an object"
        )]
    });
}

/// Writes the arguments of a method as one value, and its `Method` impl.
fn call(block: &Block, index: usize, method: &Method) -> TokenStream {
    let (signature, cfgs) = (&method.signature, &method.cfgs);
    let types = signature.arguments().enumerate().map(|(at, (_, ty))| {
        let ty = without_self(ty.to_token_stream(), &block.object);
        quote! {
            #(#cfgs)*
            impl ::steading::__private::Argument<#index, #at> for __Types {
                type Type = #ty;
            }
        }
    });
    let arguments = arguments_struct(index, method);
    let method_impl = method_impl(block, method);
    quote! {
        #(#types)*
        #arguments
        #method_impl
    }
}

fn arguments_struct(index: usize, method: &Method) -> TokenStream {
    let (signature, cfgs) = (&method.signature, &method.cfgs);
    let (call, name) = (call_name(signature), unraw(&signature.name));
    let names: Vec<_> = signature.arguments().map(|(name, _)| name).collect();
    let listed: Vec<_> = names.iter().map(|name| unraw(name)).collect();
    let expecting = match &listed[..] {
        [] => format!("no arguments for `{name}`"),
        listed => format!("the arguments of `{name}`: {}", listed.join(", ")),
    };
    let at = 0..names.len();
    let bounds = at
        .clone()
        .map(|at| quote!(::steading::__private::Argument<#index, #at>));
    let generics = (!names.is_empty()).then(|| quote!(<A: #(#bounds)+*>));
    quote! {
        #(#cfgs)*
        #[derive(::steading::__private::serde::Serialize, ::steading::__private::serde::Deserialize)]
        #[serde(
            crate = "::steading::__private::serde",
            bound = "", deny_unknown_fields, rename = #name, expecting = #expecting
        )]
        struct #call #generics {
            #(#names: ::steading::__private::Wire<
                <A as ::steading::__private::Argument<#index, #at>>::Type
            >,)*
        }
    }
}

fn method_impl(block: &Block, method: &Method) -> TokenStream {
    let (signature, cfgs, object) = (&method.signature, &method.cfgs, &block.object);
    let call = call_type(signature);
    let name = unraw(&signature.name);
    let arguments = signature.arguments().map(|(name, _)| unraw(name));
    let reply = wire(&reply(block, signature), signature.name.span());
    let fallible = signature.is_fallible();
    let takes_context = signature.takes_context();
    let body = body(block, signature);
    quote! {
        #(#cfgs)*
        impl ::steading::object::Method for #call {
            type Object = #object;
            type Reply = #reply;
            const NAME: &'static str = #name;
            const ARGUMENTS: &'static [&'static str] = &[#(#arguments),*];
            const TAKES_CONTEXT: bool = #takes_context;
            const FALLIBLE: bool = #fallible;
            const BODY: ::steading::object::Body<Self> = #body;
        }
    }
}

/// Writes how the runtime runs a method. The spans make a future that is not `Send` an error at
/// the method's name.
fn body(block: &Block, signature: &Signature) -> TokenStream {
    let span = signature.name.span();
    let (object, name) = (&block.object, &signature.name);
    let inputs = signature.inputs.iter().map(|input| match input {
        Input::Context => quote!(__context),
        Input::Argument(name, _) => quote!(__call.#name.0),
    });
    let run = quote_spanned!(span=> __object.#name(#(#inputs),*));
    let (run, waits) = match signature.run {
        Run::Plain => (run, false),
        Run::Ready => (
            quote_spanned!(span=> ::steading::__private::ready(#run)),
            false,
        ),
        Run::Waits => (quote_spanned!(span=> #run.await), true),
    };
    let run = quote_spanned!(span=> ::steading::__private::Wire(#run));
    let run = if waits { pinned(span, &run) } else { run };
    let (variant, receiver) = match (signature.access, waits) {
        (Access::Exclusive, false) => (quote!(Exclusive), quote!(&'a mut)),
        (Access::Exclusive, true) => (quote!(ExclusiveAsync), quote!(&'a mut)),
        (Access::Shared, false) => (quote!(Shared), quote!(&'a)),
        (Access::Shared, true) => (quote!(SharedAsync), quote!(&'a)),
    };
    let call = call_type(signature);
    let reply = quote!(<#call as ::steading::object::Method>::Reply);
    let output = if waits {
        quote!(::steading::__private::BoxFuture<'a, #reply>)
    } else {
        reply
    };
    quote! {
        {
            fn __run<'a>(
                __object: #receiver #object,
                __context: &'a ::steading::object::Context,
                __call: #call,
            ) -> #output {
                #run
            }
            ::steading::object::Body::#variant(__run)
        }
    }
}

fn pinned(span: Span, run: &TokenStream) -> TokenStream {
    quote_spanned!(span=> ::std::boxed::Box::pin(async move { #run }))
}

fn handle_method(block: &Block, method: &Method) -> TokenStream {
    let (signature, cfgs, object) = (&method.signature, &method.cfgs, &block.object);
    let (name, call) = (&signature.name, call_name(signature));
    let arguments: Vec<_> = signature.arguments().map(|(name, _)| name).collect();
    let types = signature
        .arguments()
        .map(|(_, ty)| without_self(ty.to_token_stream(), object));
    let generics = (!arguments.is_empty()).then(|| quote!(::<__Types>));
    let reply = reply(block, signature);
    let visibility = match &method.visibility {
        syn::Visibility::Inherited => quote!(pub),
        visibility => visibility.to_token_stream(),
    };
    let docs = &method.docs;
    let introduction = (!docs.iter().any(|a| a.path().is_ident("doc"))).then(|| {
        let text = format!("Calls `{}` of the object.", unraw(name));
        quote!(#[doc = #text])
    });
    quote! {
        #(#cfgs)*
        #introduction
        #(#docs)*
        ///
        /// # Errors
        ///
        /// `CallError`, if no answer came back; it tells whether the method may have run.
        #visibility async fn #name(
            &self,
            #(#arguments: #types),*
        ) -> ::core::result::Result<#reply, ::steading::CallError> {
            let __object: &::steading::object::ObjectRef<#object> =
                ::core::convert::AsRef::as_ref(self);
            let __call = #call #generics {
                #(#arguments: ::steading::__private::Wire(#arguments)),*
            };
            ::core::result::Result::map(__object.call(__call).await, |__reply| __reply.0)
        }
    }
}

fn methods_impl(block: &Block) -> TokenStream {
    let object = &block.object;
    let entries = block.methods.iter().map(|method| {
        let (cfgs, call) = (&method.cfgs, call_type(&method.signature));
        quote!(#(#cfgs)* ::steading::object::MethodEntry::of::<#call>())
    });
    let hook = |name: &str, hook: &Option<Signature>| {
        let (name, hook) = (
            Ident::new(name, Span::mixed_site()),
            hook.as_ref().map(hook_body),
        );
        hook.map(|hook| {
            quote! {
                const #name: ::core::option::Option<::steading::object::Hook<Self>> =
                    ::core::option::Option::Some(#hook);
            }
        })
    };
    let activate = hook("ACTIVATE", &block.activate);
    let deactivate = hook("DEACTIVATE", &block.deactivate);
    quote! {
        #[automatically_derived]
        impl ::steading::object::Methods for #object {
            fn methods() -> ::std::vec::Vec<::steading::object::MethodEntry<Self>> {
                ::std::vec::Vec::from([#(#entries),*])
            }
            #activate
            #deactivate
        }
    }
}

fn hook_body(hook: &Signature) -> TokenStream {
    let name = &hook.name;
    let span = name.span();
    let context = hook.inputs.iter().map(|_| quote!(__context));
    let wait = (hook.run != Run::Plain).then(|| quote!(.await));
    let run = quote_spanned!(span=> __object.#name(#(#context),*) #wait);
    let result = if hook.is_fallible() {
        quote_spanned!(span=> #run.map_err(::steading::__private::in_words))
    } else {
        quote_spanned!(span=> { #run; ::core::result::Result::Ok(()) })
    };
    let run = pinned(span, &result);
    quote_spanned!(span=> |__object, __context| #run)
}

fn reply(block: &Block, signature: &Signature) -> TokenStream {
    let output = signature.output.as_ref().map(ToTokens::to_token_stream);
    output.map_or_else(|| quote!(()), |output| without_self(output, &block.object))
}

/// Writes `Wire<ty>`, so that an error about the whole points at the type.
fn wire(ty: &TokenStream, default: Span) -> TokenStream {
    let spans: Vec<_> = ty.clone().into_iter().map(|token| token.span()).collect();
    let (first, last) = (spans.first(), spans.last());
    let open = quote_spanned!(*first.unwrap_or(&default)=> ::steading::__private::Wire<);
    let close = quote_spanned!(*last.unwrap_or(&default)=> >);
    quote!(#open #ty #close)
}

/// Returns the name of the struct that holds a method's arguments.
fn call_name(signature: &Signature) -> Ident {
    format_ident!("__{}", signature.name)
}

fn call_type(signature: &Signature) -> TokenStream {
    let call = call_name(signature);
    // The span makes an argument that is not `Send` an error here.
    let types = signature.arguments().next();
    let types = types.map(|_| quote_spanned!(call.span()=> <__Types>));
    quote!(#call #types)
}

/// Replaces `Self`, which means another type where the tokens go.
fn without_self(tokens: TokenStream, object: &TypePath) -> TokenStream {
    let replace = |token| match token {
        TokenTree::Ident(ident) if ident == "Self" => object.to_token_stream(),
        TokenTree::Group(group) => {
            let inside = without_self(group.stream(), object);
            let mut replaced = Group::new(group.delimiter(), inside);
            replaced.set_span(group.span());
            TokenTree::Group(replaced).into()
        }
        token @ (TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) => token.into(),
    };
    tokens
        .into_iter()
        .map(replace)
        .collect::<Vec<TokenStream>>()
        .into_iter()
        .collect()
}
