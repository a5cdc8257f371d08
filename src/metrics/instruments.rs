//! Counters and histograms with labels from closed lists: all of their series exist from the start, and to count is an
//! atomic addition at a place that is known beforehand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The labels of one series, by name, in the order of their family.
pub type Labels = Vec<(&'static str, &'static str)>;

/// A label's name, and all of its values.
pub(super) type Label = (&'static str, &'static [&'static str]);

/// A counter for each combination of its labels' values.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    values: [AtomicU64; N],
}

impl<const N: usize> Counters<N> {
    /// `N` must be the number of combinations.
    pub(super) const fn new(name: &'static str, help: &'static str, labels: &'static [Label]) -> Self {
        assert!(N == combinations(labels), "there must be a counter for each combination of labels");
        Self { name, help, labels, values: [const { AtomicU64::new(0) }; N] }
    }

    /// Adds to the series whose labels have the values at these positions of their lists.
    pub(super) fn add<const L: usize>(&self, positions: [usize; L], count: u64) {
        self.values[place(self.labels, &positions)].fetch_add(count, Ordering::Relaxed);
    }

    /// All series as they are now.
    pub(super) fn read(&self) -> CounterFamily {
        let series = self.values.iter().enumerate().map(|(place, value)| CounterSeries {
            labels: labels_at(self.labels, place),
            value: value.load(Ordering::Relaxed),
        });
        CounterFamily { name: self.name, help: self.help, series: series.collect() }
    }
}

/// A histogram of durations for each combination of its labels' values, with `B` buckets each beside the endless one.
#[derive(Debug)]
pub(super) struct Histograms<const N: usize, const B: usize> {
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    /// The buckets' upper limits, in nanoseconds, rising.
    limits: [u64; B],
    values: [Histogram<B>; N],
}

#[derive(Debug)]
struct Histogram<const B: usize> {
    /// What is at most the limit and above the one before.
    buckets: [AtomicU64; B],
    above: AtomicU64,
    sum_ns: AtomicU64,
}

impl<const N: usize, const B: usize> Histograms<N, B> {
    /// `N` must be the number of combinations.
    pub(super) const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [Label],
        limits: [Duration; B],
    ) -> Self {
        assert!(N == combinations(labels), "there must be a histogram for each combination of labels");
        let mut limits_ns = [0; B];
        let mut bucket = 0;
        while bucket < B {
            limits_ns[bucket] =
                limits[bucket].as_secs() * 1_000_000_000 + limits[bucket].subsec_nanos() as u64;
            bucket += 1;
        }
        let values = [const {
            Histogram {
                buckets: [const { AtomicU64::new(0) }; B],
                above: AtomicU64::new(0),
                sum_ns: AtomicU64::new(0),
            }
        }; N];
        Self { name, help, labels, limits: limits_ns, values }
    }

    /// Counts a duration in the series whose labels have the values at these positions of their lists.
    pub(super) fn observe<const L: usize>(&self, positions: [usize; L], duration: Duration) {
        self.observe_all(positions, self.bucket_of(duration), 1, duration);
    }

    /// The position of the bucket that a duration belongs to; `B` for the endless one.
    pub(super) fn bucket_of(&self, duration: Duration) -> usize {
        let ns = nanoseconds(duration);
        self.limits.partition_point(|limit| *limit < ns)
    }

    /// Counts durations of one bucket, which together are `sum`.
    pub(super) fn observe_all<const L: usize>(
        &self,
        positions: [usize; L],
        bucket: usize,
        count: u64,
        sum: Duration,
    ) {
        let histogram = &self.values[place(self.labels, &positions)];
        histogram.buckets.get(bucket).unwrap_or(&histogram.above).fetch_add(count, Ordering::Relaxed);
        histogram.sum_ns.fetch_add(nanoseconds(sum), Ordering::Relaxed);
    }

    /// All series as they are now.
    pub(super) fn read(&self) -> HistogramFamily {
        let series = self.values.iter().enumerate().map(|(place, histogram)| {
            let mut count = 0;
            let buckets = self.limits.iter().zip(&histogram.buckets).map(|(limit, bucket)| {
                count += bucket.load(Ordering::Relaxed);
                Bucket { le: seconds(*limit), count }
            });
            let buckets = buckets.collect();
            HistogramSeries {
                labels: labels_at(self.labels, place),
                buckets,
                sum: seconds(histogram.sum_ns.load(Ordering::Relaxed)),
                count: count + histogram.above.load(Ordering::Relaxed),
            }
        });
        HistogramFamily { name: self.name, help: self.help, series: series.collect() }
    }
}

/// A counter with all of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct CounterFamily {
    /// Its name, which ends in `_total`.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// One for each combination of labels.
    pub series: Vec<CounterSeries>,
}

/// One series of a counter.
#[derive(Debug, Clone, PartialEq)]
pub struct CounterSeries {
    /// What tells it from the others.
    pub labels: Labels,
    /// How many there were since the process started.
    pub value: u64,
}

/// A histogram with all of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramFamily {
    /// Its name, which ends in `_seconds`.
    pub name: &'static str,
    /// What it measures.
    pub help: &'static str,
    /// One for each combination of labels.
    pub series: Vec<HistogramSeries>,
}

/// One series of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSeries {
    /// What tells it from the others.
    pub labels: Labels,
    /// By rising limits.
    pub buckets: Vec<Bucket>,
    /// All durations together, in seconds.
    pub sum: f64,
    /// How many there were, those above the last limit included.
    pub count: u64,
}

/// How many durations were no longer than a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// The limit, in seconds.
    pub le: f64,
    /// How many there were.
    pub count: u64,
}

const fn combinations(labels: &[Label]) -> usize {
    let (mut product, mut label) = (1, 0);
    while label < labels.len() {
        product *= labels[label].1.len();
        label += 1;
    }
    product
}

/// Where a combination is: the last label's values follow each other.
fn place(labels: &[Label], positions: &[usize]) -> usize {
    debug_assert_eq!(labels.len(), positions.len(), "one position for each label");
    labels.iter().zip(positions).fold(0, |place, ((_, values), position)| place * values.len() + position)
}

fn labels_at(labels: &[Label], place: usize) -> Labels {
    let mut found = Labels::with_capacity(labels.len());
    let mut rest = place;
    for (name, values) in labels.iter().rev() {
        found.push((*name, values[rest % values.len()]));
        rest /= values.len();
    }
    found.reverse();
    found
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "sums over more than 104 days may be off by nanoseconds")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURS: &[&str] = &["red", "green", "blue"];
    const SIZES: &[&str] = &["small", "large"];

    #[test]
    fn every_combination_of_labels_has_a_series_of_its_own_from_the_start() {
        let counters = Counters::<6>::new("c_total", "help", &[("colour", COLOURS), ("size", SIZES)]);
        assert!(counters.read().series.iter().all(|series| series.value == 0));
        for colour in 0..3 {
            for size in 0..2 {
                counters.add([colour, size], (colour * 10 + size) as u64);
            }
        }
        let read = counters.read();
        assert_eq!(read.series.len(), 6);
        for series in read.series {
            let [("colour", colour), ("size", size)] = series.labels[..] else {
                panic!("{:?}", series.labels);
            };
            let position =
                |values: &[&str], name| values.iter().position(|value| *value == name).unwrap() as u64;
            assert_eq!(series.value, position(COLOURS, colour) * 10 + position(SIZES, size));
        }
    }

    #[test]
    fn a_histogram_counts_what_is_at_most_its_limits() {
        let limits = [Duration::from_millis(1), Duration::from_secs(1)];
        let histograms = Histograms::<2, 2>::new("h_seconds", "help", &[("size", SIZES)], limits);
        for ms in [0, 1, 2, 1000, 5000] {
            histograms.observe([1], Duration::from_millis(ms));
        }
        let read = histograms.read().series;
        assert_eq!((read[0].count, read[0].sum), (0, 0.0));
        assert_eq!(read[1].labels, [("size", "large")]);
        assert_eq!(read[1].buckets, [Bucket { le: 0.001, count: 2 }, Bucket { le: 1.0, count: 4 }]);
        assert_eq!((read[1].count, read[1].sum), (5, 6.003));
    }
}
