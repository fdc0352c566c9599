//! A metrics recorder that can be read.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

#[derive(Clone, Default)]
pub(crate) struct TestRecorder {
    values: Arc<Mutex<BTreeMap<String, Arc<Value>>>>,
}

#[derive(Default)]
struct Value(AtomicU64);

impl TestRecorder {
    /// A metric's value, `name` or `name{label}`; 0 when it was never touched.
    pub(crate) fn value(&self, name: &str) -> i64 {
        self.values.lock().get(name).map_or(0, |value| value.0.load(Ordering::SeqCst) as i64)
    }

    fn of(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let name = match labels.as_slice() {
            [] => key.name().to_owned(),
            labels => format!("{}{{{}}}", key.name(), labels.join(",")),
        };
        self.values.lock().entry(name).or_default().clone()
    }
}

impl Recorder for TestRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.0.fetch_add(value as i64 as u64, Ordering::SeqCst);
    }

    fn decrement(&self, value: f64) {
        self.0.fetch_sub(value as i64 as u64, Ordering::SeqCst);
    }

    fn set(&self, value: f64) {
        self.0.store(value as i64 as u64, Ordering::SeqCst);
    }
}
