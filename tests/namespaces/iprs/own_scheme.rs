//! A user-defined scheme with its own trust (two people must vouch), its own time (a block height)
//! and its own encoding.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use libp2p_smart_record::{
    Fault, Timestamp, ValidationError, Validator, Validity, Writer,
    iprs::{
        Description, Ipld, IprsError, IprsRecord, Record, Scheme, SequenceNumber,
        UnverifiedIprsRecord,
    },
};

use super::*;

/// Valid up to a height of a block chain. The wire form is a list of fields after the scheme's CID.
#[derive(Clone, Debug)]
struct UpToBlock {
    height: Arc<AtomicU64>,
}

fn limit(record: &Record) -> Result<u64, IprsError> {
    match record.validity {
        Ipld::Integer(n) => u64::try_from(n).map_err(|_| IprsError::Expected("a height")),
        _ => Err(IprsError::Expected("a height")),
    }
}

impl UpToBlock {
    fn at(height: u64) -> Self {
        Self { height: Arc::new(AtomicU64::new(height)) }
    }

    fn record(&self, value: &str, limit: u64) -> IprsRecord {
        sign(Record::new(self.description().cid(), value, Ipld::Integer(limit.into())))
    }
}

impl Scheme for UpToBlock {
    fn description(&self) -> Description {
        Description::new("com.example.up-to-block").with_bytes("chain", *b"main")
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        Ok(vec![limit(record)?])
    }

    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        if limit(record.record())? < self.height.load(SeqCst) {
            return Err(ValidationError::Stale);
        }
        Ok(Validity::forever())
    }

    fn marshal(&self, record: &IprsRecord) -> Vec<u8> {
        let fields = Ipld::List(vec![
            Ipld::Bytes(record.author().as_bytes().to_vec()),
            Ipld::Bytes(record.signature().to_vec()),
            Ipld::Integer(record.version().into()),
            record.value().clone(),
            record.record().validity.clone(),
        ]);
        let fields = serde_ipld_dagcbor::to_vec(&fields).unwrap();
        [self.description().cid().to_bytes(), fields].concat()
    }

    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        let scheme = self.description().cid();
        let fields = bytes
            .strip_prefix(&scheme.to_bytes()[..])
            .and_then(|fields| serde_ipld_dagcbor::from_slice(fields).ok())
            .ok_or(IprsError::Expected("fields"))?;
        let Ipld::List(fields) = fields else { return Err(IprsError::Expected("a list")) };
        let Ok(
            [Ipld::Bytes(author), Ipld::Bytes(signature), Ipld::Integer(version), value, validity],
        ) = <[Ipld; 5]>::try_from(fields)
        else {
            return Err(IprsError::Expected("five fields"));
        };
        let version = u64::try_from(version).map_err(|_| IprsError::Expected("a version"))?;
        let record = Record { scheme, value, version, validity };
        UnverifiedIprsRecord::new(record, Writer::decode(author.into())?, signature.into())
    }
}

#[test]
fn a_scheme_of_one_s_own_brings_its_own_time_and_coding() {
    let scheme = UpToBlock::at(100);
    let validator = validator().with_scheme(scheme.clone());
    let record = scheme.record("hello", 101);
    let value = validator.marshal(&record).unwrap();
    assert_ne!(value, record.as_bytes());
    assert!(value.len() < record.as_bytes().len());
    assert_eq!(validator.decode(&key(), &value), Ok(record.clone()));
    accepted_by(&validator, &key(), &value, NOW);

    scheme.height.store(101, SeqCst);
    accepted_by(&validator, &key(), &value, NOW);
    scheme.height.store(102, SeqCst);
    refused_by(&validator, &key(), &value, NOW, Fault::Stale);

    let later = validator.marshal(&scheme.record("hello", 102)).unwrap();
    assert_eq!(validator.select(&key(), &[&value, &later, &value]), Ok(1));
}

#[test]
fn a_coding_of_one_s_own_is_guarded_like_the_others() {
    let scheme = UpToBlock::at(100);
    let validator = validator().with_scheme(scheme.clone());
    let record = scheme.record("hello", 101);
    let value = validator.marshal(&record).unwrap();
    for len in 0..value.len() {
        assert!(validator.validate(&key(), &value[..len], at(NOW)).is_err());
    }
    for bit in 0..value.len() * 8 {
        let mut value = value.clone();
        value[bit / 8] ^= 1 << (bit % 8);
        assert!(validator.validate(&key(), &value, at(NOW)).is_err(), "bit {bit}");
    }
    // A record has one form, that of its scheme.
    refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Malformed);
    let padded = [&value[..], b"\x00"].concat();
    refused_by(&validator, &key(), &padded, NOW, Fault::Malformed);
    // The key is bound, and the size is limited.
    refused_by(&validator, &key_of(&alice(), "y"), &value, NOW, Fault::Invalid);
    let small = validator.clone().with_max_bytes(value.len() - 1);
    refused_by(&small, &key(), &value, NOW, Fault::LimitExceeded);
}

/// A scheme with a careless encoding that accepts several forms.
#[derive(Debug)]
struct Careless;

impl Scheme for Careless {
    fn description(&self) -> Description {
        Description::new("com.example.careless")
    }

    fn rank(&self, _: &Record) -> Result<Vec<u64>, IprsError> {
        Ok(Vec::new())
    }

    fn validate(&self, _: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }

    fn marshal(&self, record: &IprsRecord) -> Vec<u8> {
        [self.description().cid().to_bytes(), record.as_bytes().to_vec()].concat()
    }

    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        // Skips any padding, and does not check the scheme.
        let start = self.description().cid().to_bytes().len();
        let body = bytes[start..].trim_ascii_start();
        UnverifiedIprsRecord::decode(body)
    }
}

#[test]
fn a_careless_scheme_opens_no_door() {
    let validator = validator().with_scheme(Careless);
    let cid = Careless.description().cid();
    let record = sign(Record::new(cid, "hello", Ipld::Null));
    let value = validator.marshal(&record).unwrap();
    accepted_by(&validator, &key(), &value, NOW);
    // Padding that the scheme would skip.
    let padded = [&cid.to_bytes()[..], b"   ", record.as_bytes()].concat();
    refused_by(&validator, &key(), &padded, NOW, Fault::Malformed);
    // A record of another scheme in the form of this one.
    let other = sign(SequenceNumber::record("hello", 1));
    let disguised = [&cid.to_bytes()[..], other.as_bytes()].concat();
    refused_by(&validator, &key(), &disguised, NOW, Fault::Malformed);
    // Ties of the scheme's order are broken by the hash.
    let another = sign(Record::new(cid, "world", Ipld::Null));
    assert!(validator.order(&record, &another).is_ne());
}
