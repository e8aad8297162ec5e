//! F. Reading: Kademlia does not check answers.

use super::*;

/// A store that answers every GET with the same record.
struct Liar(kad::Record);

impl RecordStore for Liar {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, kad::Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, kad::ProviderRecord>>;

    fn get(&self, _: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        Some(Cow::Borrowed(&self.0))
    }
    fn put(&mut self, _: kad::Record) -> store::Result<()> {
        Ok(())
    }
    fn remove(&mut self, _: &kad::RecordKey) {}
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }
    fn add_provider(&mut self, _: kad::ProviderRecord) -> store::Result<()> {
        Ok(())
    }
    fn providers(&self, _: &kad::RecordKey) -> Vec<kad::ProviderRecord> {
        Vec::new()
    }
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }
    fn remove_provider(&mut self, _: &kad::RecordKey, _: &PeerId) {}
}

/// Looks up `key()` at a peer that answers every GET with this record.
async fn ask_liar(record: kad::Record) -> Vec<(Option<PeerId>, Vec<u8>)> {
    let keypair = Keypair::generate_ed25519();
    let liar = swarms::Node::start(keypair, Liar(record), kad::Config::new(PROTOCOL)).await;
    let client = start().await;
    connect(&client, &liar).await;
    within(client.lookup(&key())).await.unwrap()
}

#[tokio::test]
async fn an_answer_about_another_key_is_refused() {
    let elsewhere = RecordKey::new("/sr/traps/elsewhere");
    let record = says(&mut signer(&elsewhere), "elsewhere");

    let honest = kad::Record::new(kad::RecordKey::new(&elsewhere), record.encode());
    assert_eq!(ask_liar(honest).await, [], "the key of the answer is compared");

    let moved = kad::Record::new(kad::RecordKey::new(&key()), record.encode());
    let found = ask_liar(moved).await;
    let rules = SpaceRules::default();
    let read = rules.read(&key(), &found[0].1, SystemClock.now());
    assert_eq!(read.unwrap_err().fault(), Fault::Invalid);
}

#[tokio::test]
async fn an_expired_answer_is_refused() {
    let hours_ago = SystemClock.now().saturating_sub(Duration::from_secs(7_200));
    let mut writer = signer(&key());
    let document = [("text", "late")].into_iter().collect();
    writer.merge(document, hours_ago, Duration::from_secs(3_600)).unwrap();
    let record = writer.record(hours_ago);

    let late = kad::Record::new(kad::RecordKey::new(&key()), record.encode());
    let found = ask_liar(late).await;
    let rules = SpaceRules::default();
    let read = rules.read(&key(), &found[0].1, SystemClock.now());
    assert_eq!(read.unwrap_err().fault(), Fault::Expired);
}

#[tokio::test]
async fn the_local_record_is_reported_first_and_the_network_is_still_asked() {
    let (server, client) = pair().await;
    within(async {
        let (local, remote) =
            (says(&mut signer(&key()), "local"), says(&mut signer(&key()), "remote"));
        store_at(&client, &local).await;
        store_at(&server, &remote).await;
        let found = records(client.lookup(&key()).await.unwrap());
        let expected = [(None, local.encode()), (Some(server.peer()), remote.encode())];
        assert_eq!(found, expected);
    })
    .await;
}
