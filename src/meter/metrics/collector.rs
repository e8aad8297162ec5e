//! The sums of all sources at a scrape.
//!
//! **Invariants.** A counter never goes down: the counts of a dropped source stay in the sums.
//! Memory grows with the sources that are alive, not with all that ever were.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{Label, Sample, Source};

/// The registered sources. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(Arc<Mutex<Followed>>);

#[derive(Debug, Default)]
struct Followed {
    sources: Vec<Arc<dyn Source>>,
    /// Counts of dropped sources.
    past: Sums,
}

type Sums = BTreeMap<(&'static str, Option<Label>), Sample>;

impl Sources {
    fn lock(&self) -> MutexGuard<'_, Followed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a source; a source that is registered already is not added again.
    pub(super) fn follow(&self, source: Arc<dyn Source>) {
        let sources = &mut self.lock().sources;
        if sources.iter().all(|followed| !Arc::ptr_eq(followed, &source)) {
            sources.push(source);
        }
    }

    fn sums(&self) -> Sums {
        let Followed { sources, past } = &mut *self.lock();
        let gone = sources.extract_if(.., |source| Arc::strong_count(source) == 1);
        gone.for_each(|source| add(past, source.samples().into_iter().map(Sample::of_the_past)));
        let mut sums = past.clone();
        sources.iter().for_each(|source| add(&mut sums, source.samples()));
        sums
    }
}

impl Sample {
    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            MetricType::Gauge => metric.encode_gauge(&self.value),
            _ => metric.encode_counter::<NoLabelSet, _, f64>(&self.value, None),
        }
    }

    /// What remains when the source is dropped.
    fn of_the_past(mut self) -> Self {
        if matches!(self.kind, MetricType::Gauge) {
            self.value = 0;
        }
        self
    }
}

fn add(sums: &mut Sums, samples: impl IntoIterator<Item = Sample>) {
    for sample in samples {
        sums.entry((sample.name, sample.label))
            .and_modify(|sum| sum.value = sum.value.saturating_add(sample.value))
            .or_insert(sample);
    }
}

impl prometheus_client::collector::Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples: Vec<_> = self.sums().into_values().collect();
        for series in samples.chunk_by(|a, b| a.name == b.name) {
            let Some(Sample { name, help, unit, kind, .. }) = series.first() else { continue };
            let help = format!("{help}.");
            let mut metric = encoder.encode_descriptor(name, &help, unit.as_ref(), *kind)?;
            for sample in series {
                match sample.label {
                    Some(label) => sample.encode(&mut metric.encode_family(&[label])?)?,
                    None => sample.encode(&mut metric)?,
                }
            }
        }
        Ok(())
    }
}
