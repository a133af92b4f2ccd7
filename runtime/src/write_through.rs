//! Writing that is passed on as it is, for connections that differ from another only in how they are read.

/// Implements `AsyncWrite` for a type by one of its fields, which must be `Unpin`.
macro_rules! write_through {
    (impl $(<$inner:ident>)? for $type:ty, $field:tt) => {
        impl $(<$inner: ::tokio::io::AsyncWrite + Unpin>)? ::tokio::io::AsyncWrite for $type {
            fn poll_write(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bytes: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let inner = ::std::pin::Pin::new(&mut self.$field);
                ::tokio::io::AsyncWrite::poll_write(inner, cx, bytes)
            }

            fn poll_flush(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                let inner = ::std::pin::Pin::new(&mut self.$field);
                ::tokio::io::AsyncWrite::poll_flush(inner, cx)
            }

            fn poll_shutdown(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                let inner = ::std::pin::Pin::new(&mut self.$field);
                ::tokio::io::AsyncWrite::poll_shutdown(inner, cx)
            }

            fn poll_write_vectored(
                mut self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                slices: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                let inner = ::std::pin::Pin::new(&mut self.$field);
                ::tokio::io::AsyncWrite::poll_write_vectored(inner, cx, slices)
            }

            fn is_write_vectored(&self) -> bool {
                ::tokio::io::AsyncWrite::is_write_vectored(&self.$field)
            }
        }
    };
}

pub(crate) use write_through;
