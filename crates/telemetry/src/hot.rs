//! Counters of the data plane: each thread writes its own cells, a scrape adds them up.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::limits::HOT_SERIES_PER_METRIC_MAX;
use crate::registry::Labels;

/// Upper bounds of the duration buckets in microseconds; the last bucket has none.
const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// The buckets, the open one, and the sum in microseconds.
const HISTOGRAM_CELLS: usize = BUCKETS_US.len() + 2;
const SUM_CELL: usize = HISTOGRAM_CELLS - 1;
const CELLS_PER_BLOCK: usize = 16;

/// The metrics of one data-plane thread. Asking twice for the same name and labels gives the same
/// cell, so whoever is rebuilt on a reload goes on counting where it was.
///
/// The handles it gives out stay on the thread (they are not `Send`): one writer per cell is what
/// makes an increment a plain load and store.
#[derive(Clone)]
pub struct WorkerMetrics {
    inner: Rc<RefCell<Slab>>,
}

struct Slab {
    registry: Arc<HotRegistry>,
    block: Arc<Block>,
    used: usize,
    known: HashMap<(&'static str, Labels), Cells>,
}

impl WorkerMetrics {
    pub(crate) fn new(registry: Arc<HotRegistry>) -> Self {
        let slab = Slab {
            registry,
            block: Arc::default(),
            used: 0,
            known: HashMap::new(),
        };
        Self {
            inner: Rc::new(RefCell::new(slab)),
        }
    }

    /// `trilith_<name>_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels) -> HotCounter {
        HotCounter {
            cells: self.cells(Kind::Counter, name, help, labels),
            thread: PhantomData,
        }
    }

    /// `trilith_<name>`: a level that goes up and down on this thread; a scrape shows the sum of
    /// all.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels) -> HotGauge {
        HotGauge {
            cells: self.cells(Kind::Gauge, name, help, labels),
            thread: PhantomData,
        }
    }

    /// `trilith_<name>`, a histogram of times; let the name end in `_seconds`.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
    ) -> HotHistogram {
        HotHistogram {
            cells: self.cells(Kind::Histogram, name, help, labels),
            thread: PhantomData,
        }
    }

    fn cells(&self, kind: Kind, name: &'static str, help: &'static str, labels: Labels) -> Cells {
        let mut slab = self.inner.borrow_mut();
        if let Some(cells) = slab.known.get(&(name, labels.clone())) {
            return cells.clone();
        }
        let cells = slab.allocate(kind.cells());
        slab.registry.add(kind, name, help, &labels, &cells);
        slab.known.insert((name, labels), cells.clone());
        cells
    }
}

impl Slab {
    fn allocate(&mut self, count: usize) -> Cells {
        if self.used + count > CELLS_PER_BLOCK {
            self.block = Arc::default();
            self.used = 0;
        }
        let first = self.used;
        self.used += count;
        Cells {
            block: Arc::clone(&self.block),
            first,
        }
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerMetrics")
    }
}

/// A number that only grows.
#[derive(Clone, Debug)]
pub struct HotCounter {
    cells: Cells,
    thread: PhantomData<Rc<()>>,
}

impl HotCounter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.cells.add(0, amount);
    }
}

/// A level, such as open connections.
#[derive(Clone, Debug)]
pub struct HotGauge {
    cells: Cells,
    thread: PhantomData<Rc<()>>,
}

impl HotGauge {
    pub fn inc(&self) {
        self.cells.add(0, 1);
    }

    pub fn dec(&self) {
        // Two's complement: the sum over all threads is read as a signed number.
        self.cells.add(0, u64::MAX);
    }
}

/// How long something took.
#[derive(Clone, Debug)]
pub struct HotHistogram {
    cells: Cells,
    thread: PhantomData<Rc<()>>,
}

impl HotHistogram {
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.cells.add(bucket, 1);
        self.cells.add(SUM_CELL, us);
    }
}

/// Cells of one thread, away from the cache lines of other threads.
#[derive(Default)]
#[repr(align(128))]
struct Block([AtomicU64; CELLS_PER_BLOCK]);

#[derive(Clone)]
struct Cells {
    block: Arc<Block>,
    first: usize,
}

impl Cells {
    fn add(&self, offset: usize, amount: u64) {
        // No read-modify-write: this thread is the only writer, scrapes only read.
        let cell = &self.block.0[self.first + offset];
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    fn get(&self, offset: usize) -> u64 {
        self.block.0[self.first + offset].load(Relaxed)
    }
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({})", self.get(0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn cells(self) -> usize {
        match self {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram => HISTOGRAM_CELLS,
        }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

/// Who counts what: read at each scrape, written when a thread asks for a new cell.
#[derive(Debug, Default)]
pub(crate) struct HotRegistry {
    metrics: Mutex<BTreeMap<&'static str, HotMetric>>,
}

#[derive(Debug)]
struct HotMetric {
    kind: Kind,
    help: &'static str,
    series: BTreeMap<Labels, Vec<Cells>>,
}

impl HotRegistry {
    fn add(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &Labels,
        cells: &Cells,
    ) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = metrics.entry(name).or_insert_with(|| HotMetric {
            kind,
            help,
            series: BTreeMap::new(),
        });
        debug_assert_eq!(metric.kind, kind, "{name} is used for two kinds of metric");
        let room = metric.series.len() < HOT_SERIES_PER_METRIC_MAX;
        if metric.kind == kind && (room || metric.series.contains_key(labels)) {
            metric
                .series
                .entry(labels.clone())
                .or_default()
                .push(cells.clone());
        }
    }
}

impl Collector for HotRegistry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, metric) in metrics.iter() {
            let kind = metric.kind;
            let mut out = encoder.encode_descriptor(name, metric.help, None, kind.metric_type())?;
            for (labels, threads) in &metric.series {
                if labels.is_empty() {
                    encode_series(&mut out, kind, threads)?;
                } else {
                    encode_series(&mut out.encode_family(labels)?, kind, threads)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_series(out: &mut MetricEncoder<'_>, kind: Kind, threads: &[Cells]) -> fmt::Result {
    let sum = |offset| {
        threads
            .iter()
            .fold(0u64, |sum, cells| sum.wrapping_add(cells.get(offset)))
    };
    match kind {
        Kind::Counter => out.encode_counter::<NoLabelSet, _, u64>(&sum(0), None),
        Kind::Gauge => out.encode_gauge(&(sum(0) as i64)),
        Kind::Histogram => {
            let bounds = BUCKETS_US
                .iter()
                .map(|us| *us as f64 / 1e6)
                .chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds
                .enumerate()
                .map(|(i, bound)| (bound, sum(i)))
                .collect();
            let count = buckets.iter().map(|(_, n)| n).sum();
            out.encode_histogram::<NoLabelSet>(sum(SUM_CELL) as f64 / 1e6, count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests;
