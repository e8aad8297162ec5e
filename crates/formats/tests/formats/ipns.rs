//! The namespace `ipns`: laws, records of other implementations, and signing.

mod laws;
mod owners;
mod replays;
mod signatures;
mod signing;
mod vectors;

use libp2p_identity::{Keypair, PeerId};
use smart_record_core::*;
use smart_record_formats::ipns::*;
use smart_record_testing::{clock::*, ipns::*, keys::*};

fn name(keypair: &Keypair) -> IpnsName {
    IpnsName::from(&keypair.public())
}
