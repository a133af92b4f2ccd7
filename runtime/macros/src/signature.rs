//! Reads one function of a `#[methods]` block, and says what is wrong with it.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, FnArg, Ident, ImplItemFn, Pat, PatType, Receiver, ReturnType, Type};

use crate::awaits;
use crate::object::unraw;

/// Methods that every handle has already.
const RESERVED: [&str; 5] = ["with_timeout", "key", "deactivate", "delete", "clone"];

/// The most arguments of one method.
const ARGUMENTS_LEN_MAX: usize = 32;

/// What a function of the block is.
pub(crate) enum Role {
    /// It stays as it is: no method of the handle.
    Helper,
    Method(Signature),
    Activate(Signature),
    Deactivate(Signature),
}

/// A function that the runtime can call.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    pub(crate) access: Access,
    pub(crate) run: Run,
    pub(crate) inputs: Vec<Input>,
    /// The reply; `None`: nothing.
    pub(crate) output: Option<Type>,
}

/// Which receiver it has.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Access {
    Exclusive,
    Shared,
}

/// How its body runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Run {
    /// `fn`.
    Plain,
    /// `async fn` without `await`: its future is ready at once.
    Ready,
    /// `async fn` that may wait.
    Waits,
}

/// One parameter after the receiver.
pub(crate) enum Input {
    Context,
    Argument(Ident, Box<Type>),
}

impl Signature {
    /// Returns the arguments that callers give, in order.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = (&Ident, &Type)> {
        self.inputs.iter().filter_map(|input| match input {
            Input::Argument(name, ty) => Some((name, &**ty)),
            Input::Context => None,
        })
    }

    /// Whether it takes a context.
    pub(crate) fn takes_context(&self) -> bool {
        let is_context = |input: &Input| matches!(input, Input::Context);
        self.inputs.iter().any(is_context)
    }

    /// Whether it returns something whose name is `Result`.
    pub(crate) fn is_fallible(&self) -> bool {
        matches!(&self.output, Some(Type::Path(path))
            if path.path.segments.last().is_some_and(|last| last.ident == "Result"))
    }
}

/// Reads a function and takes our own attributes off it.
///
/// # Errors
///
/// The first thing that keeps it from being a method, and what to write instead.
pub(crate) fn read(function: &mut ImplItemFn) -> syn::Result<Role> {
    let mut take = |name: &str| take_attribute(&mut function.attrs, name);
    let (activate, deactivate, private) = (take("activate"), take("deactivate"), take("private"));
    match (activate, deactivate, private) {
        (None, None, Some(_)) => Ok(Role::Helper),
        (None, None, None) if function.sig.receiver().is_none() => {
            check_helper(function).map(|()| Role::Helper)
        }
        (None, None, None) => method(function).map(Role::Method),
        (Some(_), None, None) => hook(function).map(Role::Activate),
        (None, Some(_), None) => hook(function).map(Role::Deactivate),
        (Some(attribute), ..) | (None, Some(attribute), _) => fail(
            attribute.span(),
            "write only one of `#[activate]`, `#[deactivate]` and `#[private]` on a function",
        ),
    }
}

fn take_attribute(attributes: &mut Vec<Attribute>, name: &str) -> Option<Attribute> {
    let at = attributes.iter().position(|a| a.path().is_ident(name))?;
    Some(attributes.remove(at))
}

/// A function without `self` is a helper, unless it looks like a method that forgot it.
fn check_helper(function: &ImplItemFn) -> syn::Result<()> {
    let meant_as_method = function.sig.inputs.iter().find(|input| match input {
        FnArg::Typed(PatType { ty, .. }) => refers_to(ty, "Self") || refers_to(ty, "Context"),
        FnArg::Receiver(_) => false,
    });
    match meant_as_method {
        Some(input) => fail(
            input.span(),
            "a method begins with `&mut self` or `&self`: add it, or mark a helper with `#[private]`",
        ),
        None => Ok(()),
    }
}

fn method(function: &ImplItemFn) -> syn::Result<Signature> {
    let signature = signature(function)?;
    let name = unraw(&signature.name);
    if RESERVED.contains(&name.as_str()) {
        return fail(
            signature.name.span(),
            &format!(
                "every handle has a method `{name}` already: choose another name, or mark a helper with `#[private]`"
            ),
        );
    }
    if signature.arguments().count() > ARGUMENTS_LEN_MAX {
        return fail(
            function.sig.inputs.span(),
            &format!(
                "a method takes at most {ARGUMENTS_LEN_MAX} arguments: write one struct that holds them"
            ),
        );
    }
    if let Some(output) = &signature.output {
        check_payload(output, "a reply")?;
    }
    Ok(signature)
}

fn hook(function: &ImplItemFn) -> syn::Result<Signature> {
    let signature = signature(function)?;
    if let Some((name, _)) = signature.arguments().next() {
        return fail(
            name.span(),
            "nobody calls a hook, so it takes no argument: only `&mut self` and, if you like, `ctx: &Context`",
        );
    }
    match &signature.output {
        Some(output) if !signature.is_fallible() => fail(
            output.span(),
            "nobody reads what a hook returns: write nothing, or `Result<(), E>` where `E: Display`",
        ),
        Some(_) | None => Ok(signature),
    }
}

fn signature(function: &ImplItemFn) -> syn::Result<Signature> {
    let sig = &function.sig;
    let access = access(sig.receiver().ok_or_else(|| {
        let message = "begin with `&mut self` (or `&self`): this runs on an object";
        syn::Error::new(sig.ident.span(), message)
    })?)?;
    if !sig.generics.params.is_empty() {
        return fail(
            sig.generics.span(),
            "a method cannot be generic, since other nodes call it by name: write the types themselves, and `ctx: &Context` without a lifetime",
        );
    }
    if let Some(unsafety) = &sig.unsafety {
        return fail(
            unsafety.span,
            "callers elsewhere can promise nothing: write a safe method",
        );
    }
    let mut inputs = Vec::new();
    for input in sig.inputs.iter().skip(1) {
        match input {
            FnArg::Typed(input) => inputs.push(self::input(input)?),
            FnArg::Receiver(_) => {} // The parser allows it in the first place only.
        }
    }
    if let Some(second) = second_context(&inputs, sig) {
        return fail(second, "one `ctx: &Context` is enough");
    }
    Ok(Signature {
        name: sig.ident.clone(),
        access,
        run: match sig.asyncness {
            None => Run::Plain,
            Some(_) if awaits::may_wait(&function.block) => Run::Waits,
            Some(_) => Run::Ready,
        },
        inputs,
        output: output(&sig.output),
    })
}

fn access(receiver: &Receiver) -> syn::Result<Access> {
    const ADVICE: &str = "an object stays where it lives: write `&mut self` (runs alone) or `&self` (may run together with others)";
    match &receiver.reference {
        Some((_, None)) if receiver.colon_token.is_none() => match receiver.mutability {
            Some(_) => Ok(Access::Exclusive),
            None => Ok(Access::Shared),
        },
        Some(_) | None => fail(receiver.span(), ADVICE),
    }
}

fn input(input: &PatType) -> syn::Result<Input> {
    match &*input.ty {
        Type::Reference(reference) if is_named(&reference.elem, "Context") => {
            if reference.mutability.is_some() {
                return fail(input.ty.span(), "write `&Context`: a context is shared");
            }
            return Ok(Input::Context);
        }
        ty if is_named(ty, "Context") => {
            return fail(
                ty.span(),
                "write `&Context`: the runtime lends it for one turn",
            );
        }
        ty => check_payload(ty, "an argument")?,
    }
    match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
            Ok(Input::Argument(pat.ident.clone(), input.ty.clone()))
        }
        pat => fail(
            pat.span(),
            "callers name each argument: write a plain name, and take it apart in the body",
        ),
    }
}

fn second_context(inputs: &[Input], sig: &syn::Signature) -> Option<Span> {
    let contexts = inputs.iter().zip(sig.inputs.iter().skip(1));
    let mut contexts = contexts.filter(|(input, _)| matches!(input, Input::Context));
    contexts.nth(1).map(|(_, written)| written.span())
}

fn output(output: &ReturnType) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => match &**ty {
            Type::Tuple(tuple) if tuple.elems.is_empty() => None,
            ty => Some(ty.clone()),
        },
    }
}

/// Refuses what can be seen to be unfit for travel: borrowed data, and types without a name.
/// The rest is found by the compiler, with the message of `steading::__private::Payload`.
fn check_payload(ty: &Type, what: &str) -> syn::Result<()> {
    let mut unfit = Unfit(None);
    unfit.visit_type(ty);
    match unfit.0 {
        None => Ok(()),
        Some((span, advice)) => fail(
            span,
            &format!("{what} may travel to another node, so it {advice}"),
        ),
    }
}

/// The first part of a type that cannot travel, and what to do about it.
struct Unfit(Option<(Span, String)>);

impl Visit<'_> for Unfit {
    fn visit_type_reference(&mut self, reference: &syn::TypeReference) {
        let owned = match &*reference.elem {
            elem if is_named(elem, "str") => "`String`",
            Type::Slice(_) => "a `Vec`",
            _ => "the type without `&`",
        };
        self.found(reference.span(), format!("owns its data: write {owned}"));
    }

    fn visit_type_impl_trait(&mut self, ty: &syn::TypeImplTrait) {
        self.found(
            ty.span(),
            "has one known type: write it instead of `impl …`".into(),
        );
    }

    fn visit_lifetime(&mut self, lifetime: &syn::Lifetime) {
        if lifetime.ident != "static" {
            self.found(
                lifetime.span(),
                "owns its data: write a type without a lifetime".into(),
            );
        }
    }
}

impl Unfit {
    fn found(&mut self, span: Span, advice: String) {
        self.0.get_or_insert((span, advice));
    }
}

/// Whether a type is `&Name` or `&mut Name`.
fn refers_to(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Reference(reference) if is_named(&reference.elem, name))
}

fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path)
        if path.path.segments.last().is_some_and(|last| last.ident == name))
}

fn fail<T>(span: Span, message: &str) -> syn::Result<T> {
    Err(syn::Error::new(span, message))
}
