//! Records of other implementations in a node.

use libp2p_smart_record::{RecordKey, Validator, ipns::IpnsValidator};
use smart_record_testing::vectors::{bytes, npm_ipns};

use super::*;

#[test]
fn a_node_keeps_what_is_valid_of_the_records_of_the_npm_package_ipns() {
    for vector in npm_ipns() {
        let (key, value) = (RecordKey::new(bytes(&vector, "key")), bytes(&vector, "record"));
        let is_valid = IpnsValidator.validate(&key, &value, at(NOW)).is_ok();
        let mut node = node();
        assert_eq!(node.faults(&key, &value).is_empty(), is_valid);
        assert_eq!(node.get(&key), is_valid.then_some(value));
    }
}
