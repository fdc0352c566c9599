//! Traces over OTLP, connected to those of producers.
//!
//! The producer decides: a span is created only under a sampled W3C `traceparent`, so a gateway under load sends no
//! spans that no producer asked for. Without `otel.endpoint` there is no exporter, and a span costs one read of an
//! atomic. The variables `OTEL_EXPORTER_OTLP_HEADERS`, `…_TIMEOUT` and `…_COMPRESSION` of the OpenTelemetry
//! specification apply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use opentelemetry::{
    Context, KeyValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::{Layer, filter::LevelFilter, registry::LookupSpan};

use super::TelemetryError;
use crate::config::Otel;

/// How long sending the last spans may take.
const FLUSH: Duration = Duration::from_secs(5);
/// How long one request to the receiver may take.
const REQUEST: Duration = Duration::from_secs(10);
/// Failures to reach the receiver are logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

static ON: AtomicBool = AtomicBool::new(false);
static TRACER: ArcSwapOption<SdkTracer> = ArcSwapOption::const_empty();

/// The running exporter.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Starts sending traces to `otel.endpoint`; does nothing if it is unset. Call it inside a runtime: requests run on
/// it.
///
/// # Errors
/// [`TelemetryError::Exporter`].
pub fn start(config: &Otel) -> Result<Option<Traces>, TelemetryError> {
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    // The HTTP client needs a process-wide provider. An error means that one is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_url(endpoint))
        .with_timeout(REQUEST)
        .build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(OnRuntime::new(exporter))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        .with_resource(resource())
        .build();
    let tracer = provider.tracer("crewcast");
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    TRACER.store(Some(Arc::new(tracer.clone())));
    ON.store(true, Ordering::Release);
    Ok(Some(Traces { provider, tracer }))
}

impl Traces {
    /// Also sends the spans of `tracing` that are under a sampled parent.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        OpenTelemetryLayer::new(self.tracer.clone()).with_filter(LevelFilter::INFO)
    }

    /// Sends the pending spans, for at most five seconds, and stops. Spans created from now on are dropped.
    pub async fn shutdown(self) {
        ON.store(false, Ordering::Release);
        TRACER.store(None);
        let provider = self.provider;
        // It blocks until the exporter's thread is done, and that thread needs this runtime.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(error) => tracing::warn!(%error, "the last spans were not sent"),
        }
    }
}

/// Whether traces are sent. Cheap: call it before computing anything for a span.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The path of one event through this gateway. Ends when dropped.
#[derive(Debug, Default)]
pub struct DeliverySpan(Option<Span>);

impl DeliverySpan {
    /// Adds an attribute. Has no effect if the trace is not sampled.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// Whether the span will be sent.
    pub fn is_sampled(&self) -> bool {
        self.0.is_some()
    }
}

/// The span `crewcast.deliver` under the event's `traceparent`. It is empty if traces are off, if the event has no
/// `traceparent` or a malformed one (W3C Trace Context, section 3.2), or if the producer did not sample.
pub fn delivery_span(traceparent: Option<&str>, channel: &str) -> DeliverySpan {
    if !is_on() {
        return DeliverySpan::default();
    }
    let Some(parent) = traceparent.and_then(sampled_parent) else { return DeliverySpan::default() };
    let tracer = TRACER.load();
    let Some(tracer) = tracer.as_deref() else { return DeliverySpan::default() };
    let span = tracer
        .span_builder("crewcast.deliver")
        .with_kind(SpanKind::Consumer)
        .with_attributes([
            KeyValue::new("messaging.system", "crewcast"),
            KeyValue::new("messaging.destination.name", channel.to_owned()),
        ])
        .start_with_context(tracer, &parent);
    DeliverySpan(Some(span))
}

fn sampled_parent(traceparent: &str) -> Option<Context> {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(traceparent));
    parent.span().span_context().is_sampled().then_some(parent)
}

/// A carrier that contains only a traceparent.
struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// OTLP/HTTP, section "Endpoint URLs": `/v1/traces` is appended to a base URL.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

fn resource() -> Resource {
    Resource::builder()
        .with_service_name(std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "crewcast".to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Runs requests on the gateway's runtime, because batches are built on a thread without one.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    complained: Mutex<Option<Instant>>,
}

impl OnRuntime {
    fn new(exporter: opentelemetry_otlp::SpanExporter) -> Self {
        Self { exporter: Arc::new(exporter), runtime: Handle::current(), complained: Mutex::new(None) }
    }

    fn complain(&self, error: &OTelSdkError) {
        let mut complained = self.complained.lock();
        if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            tracing::warn!(%error, "traces cannot be sent to otel.endpoint; they are dropped until it answers");
        }
    }
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let sent = self.runtime.spawn(async move { exporter.export(batch).await }).await;
        let result = sent.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        result.inspect_err(|error| self.complain(error))
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Called while the pipeline is built, when the exporter is not shared yet.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Bytes, routing::post};
    use tokio::sync::mpsc;

    use super::*;

    const TRACE_ID: [u8; 16] =
        [0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36];
    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// An OTLP/HTTP receiver on its own port; returns the bodies that it receives.
    async fn receiver() -> (String, mpsc::Receiver<Bytes>) {
        let (bodies, received) = mpsc::channel(64);
        let take = move |body: Bytes| {
            let bodies = bodies.clone();
            async move { bodies.send(body).await.map_err(|_| axum::http::StatusCode::GONE) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (format!("http://{address}"), received)
    }

    fn contains(body: &[u8], bytes: &[u8]) -> bool {
        body.windows(bytes.len()).any(|window| window == bytes)
    }

    // One test for both states, because they are global to the process.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sampled_deliveries_are_sent_while_traces_are_on() {
        let (endpoint, mut received) = receiver().await;
        assert!(start(&Otel { endpoint: None }).expect("off").is_none());
        assert!(!is_on() && !delivery_span(Some(SAMPLED), "graph:abc").is_sampled());

        let traces = start(&Otel { endpoint: Some(endpoint) }).expect("starts").expect("on");
        assert!(is_on());
        let not_sampled = "00-aaf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        for traceparent in [None, Some(not_sampled), Some("00-nonsense"), Some("")] {
            assert!(!delivery_span(traceparent, "graph:abc").is_sampled(), "{traceparent:?}");
        }
        let mut span = delivery_span(Some(SAMPLED), "graph:abc");
        span.set("crewcast.subscribers", 3);
        drop(span);
        traces.shutdown().await;

        let body = received.recv().await.expect("spans");
        assert!(contains(&body, &TRACE_ID), "the producer's trace id");
        assert!(
            contains(&body, &[0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]),
            "the producer's span is the parent"
        );
        for text in ["crewcast.deliver", "graph:abc", "crewcast.subscribers", "service.name"] {
            assert!(contains(&body, text.as_bytes()), "{text}");
        }
        assert!(!contains(&body, &[0xaa, 0xf9, 0x2f, 0x35]), "not the unsampled one");
        assert!(!is_on() && !delivery_span(Some(SAMPLED), "graph:abc").is_sampled());
        assert!(received.try_recv().is_err(), "nothing more was sent");
    }

    #[test]
    fn an_endpoint_is_a_base_url_or_the_full_path() {
        assert_eq!(traces_url("http://c:4318"), "http://c:4318/v1/traces");
        assert_eq!(traces_url("http://c:4318/"), "http://c:4318/v1/traces");
        assert_eq!(traces_url("http://c:4318/v1/traces"), "http://c:4318/v1/traces");
    }
}
