//! Decides whether a method's body may wait, by its text alone.
//!
//! Wrong in one direction only: a body is called waiting if it might be. A body called plain holds
//! no `await`, and calls only macros that are known to hide none, so its future is ready at once.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;

/// Macros of the standard library and of logging and error crates, none of which awaits by itself.
const PLAIN_MACROS: &[&str] = &[
    "anyhow",
    "assert",
    "assert_eq",
    "assert_ne",
    "bail",
    "column",
    "concat",
    "debug",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "ensure",
    "env",
    "eprint",
    "eprintln",
    "error",
    "event",
    "file",
    "format",
    "format_args",
    "include_bytes",
    "include_str",
    "info",
    "json",
    "line",
    "matches",
    "module_path",
    "option_env",
    "panic",
    "print",
    "println",
    "stringify",
    "todo",
    "trace",
    "unimplemented",
    "unreachable",
    "vec",
    "warn",
    "write",
    "writeln",
];

/// Whether this body may have to wait.
pub(crate) fn may_wait(body: &syn::Block) -> bool {
    if mentions_await(body.to_token_stream()) {
        return true;
    }
    let mut macros = UnknownMacros(false);
    macros.visit_block(body);
    macros.0
}

fn mentions_await(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "await",
        TokenTree::Group(group) => mentions_await(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Whether a macro was seen that may hide an `await`, as `tokio::join!` does.
struct UnknownMacros(bool);

impl Visit<'_> for UnknownMacros {
    fn visit_macro(&mut self, call: &syn::Macro) {
        let plain = (call.path.segments.last())
            .is_some_and(|segment| PLAIN_MACROS.iter().any(|name| segment.ident == name));
        self.0 |= !plain || mentions_macro(call.tokens.clone());
    }
}

/// Whether tokens call a macro: `syn` does not look into a macro's arguments.
fn mentions_macro(tokens: TokenStream) -> bool {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let calls = |window: &[TokenTree]| match window {
        [
            TokenTree::Ident(_),
            TokenTree::Punct(punct),
            TokenTree::Group(_),
        ] => punct.as_char() == '!',
        _ => false,
    };
    tokens.windows(3).any(calls)
        || tokens.iter().any(|token| match token {
            TokenTree::Group(group) => mentions_macro(group.stream()),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn bodies_without_await_are_plain() {
        assert!(!may_wait(&parse_quote!({
            self.total += n;
            self.total
        })));
        assert!(!may_wait(&parse_quote!({
            println!("{}", self.x != 1);
            tracing::info!("y")
        })));
    }

    #[test]
    fn an_await_anywhere_waits() {
        assert!(may_wait(&parse_quote!({ other.add(1).await })));
        assert!(may_wait(&parse_quote!({
            println!("{}", other.total().await)
        })));
    }

    #[test]
    fn unknown_macros_may_hide_an_await() {
        assert!(may_wait(&parse_quote!({ tokio::join!(a, b) })));
        assert!(may_wait(&parse_quote!({ vec![select!(a, b)] })));
    }
}
