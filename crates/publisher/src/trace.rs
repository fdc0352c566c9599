//! The caller's trace context.

/// The `traceparent` (W3C Trace Context) of the current tracing span. `None` without a span or without the feature
/// `otel`.
pub(crate) fn parent() -> Option<String> {
    #[cfg(feature = "otel")]
    {
        use opentelemetry::trace::TraceContextExt;
        use tracing_opentelemetry::OpenTelemetrySpanExt;

        let context = tracing::Span::current().context();
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
    }
    #[cfg(not(feature = "otel"))]
    None
}
