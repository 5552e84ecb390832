//! The log of a server: lines with a time and the request's id, plain or as JSON.

use std::fmt;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use data::text::visible_json;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;
use train::command::visible_fields;

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Plain,
    /// One JSON object a line
    Json,
}

/// Messages go to standard error; `KILN_LOG` takes `tracing`'s directives.
pub(crate) fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("KILN_LOG")
        .unwrap_or_else(|_| EnvFilter::new("error,train=info,model=info,kiln=info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| train::command::StderrWriter);
    // A second call (tests in one process) keeps the first.
    let _ = match format {
        LogFormat::Plain => builder
            .fmt_fields(visible_fields())
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.fmt_fields(Json).event_format(Json).try_init(),
    };
}

/// Fields of an event or a span as a JSON object, and an event as a line of JSON.
struct Json;

#[derive(Default)]
struct Collected(Map<String, Value>);

impl Collected {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Collected {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

impl<'writer> FormatFields<'writer> for Json {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        write!(writer, "{}", visible_json(&Value::Object(collected.0).to_string()))
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        line.insert("unix_seconds".to_owned(), now.as_secs_f64().into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            // As `Json` wrote them.
            let fields = fields.and_then(|fields| serde_json::from_str::<Value>(&fields.fields).ok());
            line.insert(span.name().to_owned(), fields.unwrap_or(Value::Null));
        }
        let mut collected = Collected::default();
        event.record(&mut collected);
        line.extend(collected.0);
        writeln!(writer, "{}", visible_json(&Value::Object(line).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_with_the_request() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(Json)
            .event_format(Json)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", id = "a\"b");
            span.in_scope(|| tracing::info!(status = 200u16, milliseconds = 1.5, path = "/\n", "answered"));
            tracing::warn!("no span");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["request"]["id"], "a\"b");
        assert_eq!(lines[0]["status"], 200);
        assert_eq!(lines[0]["milliseconds"], 1.5);
        assert_eq!(lines[0]["message"], "answered");
        assert_eq!((&lines[1]["level"], &lines[1]["message"]), (&"WARN".into(), &"no span".into()));
        assert!(lines[1].get("request").is_none());
    }
}
