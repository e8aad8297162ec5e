//! IPRS: schemes, records, choices.

use std::sync::{Arc, RwLock};

use serde_json::{Value, json};
use smart_record_core::{Cid, RecordKey, Validator};
use smart_record_formats::iprs::{
    Beacon, BeaconCitation, BeaconError, Freshness, IprsValidator, Scheme, UnverifiedIprsRecord,
};
use smart_record_testing::{
    at,
    vectors::{bytes, text},
};

use super::{choices, each, is_stale, unhex};
use crate::{forms::millis, reasons};

/// A beacon with the values of its first rounds.
#[derive(Debug)]
pub struct Rounds(Vec<Cid>);

impl Beacon for Rounds {
    fn id(&self) -> Cid {
        self.0[0]
    }

    fn age(&self, cited: &BeaconCitation) -> Result<u64, BeaconError> {
        let (round, newest) = (cited.round, self.0.len() as u64 - 1);
        match self.0.get(usize::try_from(round).unwrap()) {
            None => Err(BeaconError::Future { round, newest }),
            Some(value) if *value == cited.value => Ok(newest - round),
            Some(_) => Err(BeaconError::Forged { round }),
        }
    }
}

/// The beacon of a case, and its scheme.
pub fn beacon_of(case: &Value) -> (Arc<RwLock<Rounds>>, Freshness) {
    let rounds = case["beacon"]["rounds"].as_array().unwrap();
    let rounds = rounds.iter().map(|cid| Cid::try_from(unhex(cid.as_str().unwrap())).unwrap());
    let beacon = Arc::new(RwLock::new(Rounds(rounds.collect())));
    let threshold = case["beacon"]["threshold"].as_u64().unwrap();
    (beacon.clone(), Freshness::new(beacon, threshold))
}

fn validator_of(case: &Value) -> IprsValidator {
    match case["beacon"].is_null() {
        true => IprsValidator::default(),
        false => IprsValidator::default().with_scheme(beacon_of(case).1),
    }
}

/// The expected fields of a good value.
pub fn good(case: &Value) -> Option<Value> {
    let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
    let validator = validator_of(case);
    let now = at(case["now"].as_u64().unwrap());
    let validity = validator.validate(&key, &value, now).ok()?;
    let record = validator.read(&key, &value, now).unwrap();
    Some(json!({
        "cid": record.cid().to_string(),
        "author": record.author().peer_id().to_string(),
        "scheme": record.scheme().to_string(),
        "version": record.version(),
        "expires_at": millis(validity.expires_at),
        "ttl_since_receipt": validity.ttl_since_receipt.map(|ttl| ttl.as_millis() as u64),
    }))
}

/// The reason of a refusal that does not depend on the time: the first step that fails.
fn reason(case: &Value) -> Option<&'static str> {
    let record = match UnverifiedIprsRecord::decode(&bytes(case, "value")) {
        Ok(record) => record,
        Err(error) => return Some(reasons::iprs(&error)),
    };
    let schemes: [Box<dyn Scheme>; 4] = [
        Box::new(smart_record_formats::iprs::DatetimeRange),
        Box::new(smart_record_formats::iprs::TtlSinceReceipt),
        Box::new(smart_record_formats::iprs::Ancestry),
        Box::new(smart_record_formats::iprs::SequenceNumber),
    ];
    let own = schemes.iter().find(|scheme| scheme.description().cid() == record.record().scheme);
    if let Some(Err(error)) = own.map(|scheme| scheme.rank(record.record())) {
        return Some(reasons::iprs(&error));
    }
    // The remaining errors of the validator have their own reasons.
    None
}

#[test]
fn records() {
    each("iprs/records", |case| {
        let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
        let now = at(case["now"].as_u64().unwrap());
        match validator_of(case).validate(&key, &value, now) {
            Ok(_) if is_stale(&validator_of(case), case) => (),
            Ok(_) => {
                assert!(case["refused"].is_null());
                assert_eq!(good(case).as_ref(), Some(&case["good"]));
            }
            Err(error) => {
                let fault = error.fault().as_str();
                assert_eq!(case["refused"]["fault"], json!(fault), "{error}");
                let expected = text(&case["refused"], "reason");
                let found = match reason(case) {
                    _ if error.to_string().contains("the CID of a scheme") => "field",
                    Some(reason) if fault == "malformed" => reason,
                    _ if expected == "forged" => "forged",
                    _ => reasons::reason(&error),
                };
                assert_eq!(found, expected, "{error}");
            }
        }
    });
}

#[test]
fn schemes() {
    each("iprs/schemes", |case| {
        let cid = Cid::try_from(bytes(case, "cid_bytes")).unwrap();
        assert_eq!(cid.to_string(), text(case, "cid"));
        use sha2::Digest;
        let hash = sha2::Sha256::digest(bytes(case, "block"));
        assert_eq!(cid.to_bytes(), [&[0x01, 0x71, 0x12, 0x20][..], &hash].concat());
    });
    let known = IprsValidator::default().schemes().count();
    assert_eq!(known, 4);
}

#[test]
fn selections() {
    choices("iprs/choices", |case, key, values| validator_of(case).select(key, values));
}
