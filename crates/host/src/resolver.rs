//! Resolver of host names.

use std::{io, net::IpAddr};

use futures::future::{BoxFuture, FutureExt};

use smart_record_services::Resolve;

/// Resolves names as the machine does, for a [service](super::HostBuilder::with_service) that dials
/// addresses with names.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        // A port is required and ignored.
        let host = (name.to_owned(), 0);
        async move { Ok(tokio::net::lookup_host(host).await?.map(|found| found.ip()).collect()) }
            .boxed()
    }
}
