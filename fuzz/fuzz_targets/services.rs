//! A service with the default policy: it dials only public addresses, and findings use the one form
//! of their request.

#![no_main]

use std::{net::IpAddr, task::Context, time::Duration};

use futures::{FutureExt, future::BoxFuture, task::noop_waker_ref};
use libfuzzer_sys::fuzz_target;
use libp2p_kad as kad;
use libp2p_smart_record::{
    Kind, Registry,
    behaviour::Behaviour,
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};
use libp2p_smart_record_fuzz::{
    author,
    clock::ManualClock,
    forge::{self, key},
    now,
    requests::{Asked, check_dial, document, fail},
};
use libp2p_swarm::{NetworkBehaviour, ToSwarm};
use smart_record_services::{DialPolicy, Resolve, Service, findings};

/// A resolver whose answers the fuzzer chooses.
struct Names([IpAddr; 3]);

impl Resolve for Names {
    fn resolve(&self, _: &str) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        std::future::ready(Ok(self.0.to_vec())).boxed()
    }
}

fuzz_target!(|input: (Vec<Asked<'_>>, [IpAddr; 3])| {
    let (asked, names) = input;
    let (clock, local) = (ManualClock::at(now()), author(1));
    let (config, storage) = (StoreConfig::default(), MemoryStorage::default());
    let id = local.peer_id();
    let store =
        SmartRecordStore::with_storage(id, Registry::default(), config, storage, clock.clone())
            .expect("memory is anyone's");
    let builder = Behaviour::builder(local.0.clone()).with_protocol(kad::PROTOCOL_NAME);
    let (mut records, _client) = builder.with_store(store).expect("the same peer").build();
    let builder = Service::builder().with_reachability(DialPolicy::default());
    let Service { mut dialer, mut task, events: _events } =
        builder.with_resolver(Names(names)).build(&mut records);
    let _ = records.store_mut().write(&key(), &forge::encode([author(0).says(&document(&asked))]));

    let mut cx = Context::from_waker(noop_waker_ref());
    for _ in 0..8 {
        assert!(task.poll_unpin(&mut cx).is_pending());
        while let std::task::Poll::Ready(action) = dialer.poll(&mut cx) {
            let ToSwarm::Dial { opts } = action else { panic!("{action:?}") };
            check_dial(&opts);
            fail(&mut dialer, &opts);
        }
        while records.poll(&mut cx).is_ready() {}
        clock.advance(Duration::from_secs(1));
    }

    let view = records.store_mut().view(&key()).expect("memory does not fail");
    for (_, found) in findings(&view).filter(|(writer, _)| writer.peer_id() == id) {
        assert!(["connectivity", "dialable"].contains(&&*found.request.tag));
        assert!(["notConnected", "notDialable"].contains(&&*found.finding.tag));
        assert_eq!(found.request.named, found.finding.named);
        let address = found.request.named.get("address").map(|node| &node.kind);
        assert!(matches!(address, Some(Kind::String(_))), "{address:?}");
    }
});
