//! The tools of simulated agents: their parameters, progress and failures.

use fastrand::Rng;
use serde_json::{Value, json};

/// One tool.
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Creates the parameters of a call about a subject.
    pub(super) params: fn(&mut Rng, &str) -> Value,
    /// The messages of the call's progress events.
    pub(super) steps: &'static [&'static str],
    /// Shortest and longest duration of a call, in seconds.
    pub(super) seconds: (f64, f64),
    /// Whether progress events hold a number, too.
    pub(super) measured: bool,
    /// How a call fails.
    pub(super) failure: Failure,
}

/// The failure of a tool call.
pub(super) struct Failure {
    pub(super) exit_code: i32,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
}

const fn failure(exit_code: i32, code: &'static str, message: &'static str) -> Failure {
    Failure { exit_code, code, message }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn file(rng: &mut Rng) -> &'static str {
    pick(rng, &["src/http/client.rs", "src/cache/image.rs", "src/orders/page.rs", "src/login/session.rs", "src/lib.rs"])
}

pub(super) static WEB_SEARCH: Tool = Tool {
    name: "web_search",
    params: |rng, subject| {
        let angle = pick(rng, &["figures 2026", "criticism", "case study", "survey", "cost per unit"]);
        json!({"query": format!("{subject} {angle}"), "limit": 10 * rng.u32(1..4), "language": "en"})
    },
    steps: &["asking the index", "12 of 40 results read", "33 of 40 results read"],
    seconds: (1.8, 4.2),
    measured: true,
    failure: failure(1, "upstream_503", "the search index answers 503 Service Unavailable"),
};

pub(super) static FETCH_PAGE: Tool = Tool {
    name: "fetch_page",
    params: |rng, subject| {
        let slug = subject.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let host = pick(rng, &["journal.example.org", "data.example.net", "news.example.com"]);
        json!({"url": format!("https://{host}/{slug}"), "timeout_s": 20, "render": rng.bool()})
    },
    steps: &["connected", "240 kB received"],
    seconds: (1.2, 3.0),
    measured: false,
    failure: failure(28, "timeout", "no answer within 20 s"),
};

pub(super) static VECTOR_SEARCH: Tool = Tool {
    name: "vector_search",
    params: |rng, subject| {
        let top_k = rng.u32(3..13);
        json!({"collection": "reports", "text": subject, "top_k": top_k, "min_score": 0.72})
    },
    steps: &["embedding the question", "comparing 81,204 vectors"],
    seconds: (1.0, 2.4),
    measured: true,
    failure: failure(1, "index_locked", "the collection is being rebuilt"),
};

pub(super) static SQL_QUERY: Tool = Tool {
    name: "sql_query",
    params: |rng, _| {
        let table = pick(rng, &["plants", "prices_daily", "incidents", "orders"]);
        json!({"sql": format!("SELECT year, avg(value) FROM {table} GROUP BY year ORDER BY year"), "max_rows": 500})
    },
    steps: &["planning", "scanning", "sorting"],
    seconds: (1.6, 4.0),
    measured: true,
    failure: failure(1, "statement_timeout", "canceling statement due to statement timeout"),
};

pub(super) static PYTHON: Tool = Tool {
    name: "python",
    params: |rng, _| {
        let code = pick(
            rng,
            &[
                "df = pd.read_csv('figures.csv')\nprint(df.describe())",
                "fit = np.polyfit(year, value, 2)\nprint(fit)",
                "plt.plot(year, value)\nplt.savefig('trend.png')",
            ],
        );
        json!({"code": code, "timeout_s": 60})
    },
    steps: &["importing pandas", "4,810 rows loaded", "writing the result"],
    seconds: (1.8, 4.4),
    measured: false,
    failure: failure(1, "exception", "KeyError: 'value'"),
};

pub(super) static WRITE_FILE: Tool = Tool {
    name: "write_file",
    params: |rng, subject| {
        let words = rng.u32(300..1800);
        let section = pick(rng, &["summary", "method", "findings"]);
        json!({"path": "report.md", "section": section, "title": subject, "words": words})
    },
    steps: &["first paragraph", "halfway", "last paragraph"],
    seconds: (2.4, 5.0),
    measured: true,
    failure: failure(1, "context_length", "the model's context is full"),
};

pub(super) static FACT_CHECK: Tool = Tool {
    name: "fact_check",
    params: |rng, _| json!({"path": "report.md", "claims": rng.u32(6..24), "strict": true}),
    steps: &["claim 2", "claim 5", "claim 9", "the last claim"],
    seconds: (2.4, 5.2),
    measured: true,
    failure: failure(2, "unsupported_claim", "a claim has no source"),
};

pub(super) static READ_FILE: Tool = Tool {
    name: "read_file",
    params: |rng, _| {
        let from = rng.u32(1..200);
        json!({"path": file(rng), "from": from, "to": from + 80})
    },
    steps: &["80 lines"],
    seconds: (0.7, 1.6),
    measured: false,
    failure: failure(2, "not_found", "No such file or directory"),
};

pub(super) static EDIT_FILE: Tool = Tool {
    name: "edit_file",
    params: |rng, subject| json!({"path": file(rng), "instruction": subject, "hunks": rng.u32(1..6), "dry_run": false}),
    steps: &["reading the file", "applying the change"],
    seconds: (1.4, 3.4),
    measured: false,
    failure: failure(1, "conflict", "the second hunk does not apply"),
};

pub(super) static RUN_TESTS: Tool = Tool {
    name: "run_tests",
    params: |rng, _| {
        let filter = pick(rng, &["http::", "orders::", "cache::", ""]);
        json!({"command": "cargo test --workspace", "filter": filter, "threads": 4})
    },
    steps: &["compiling", "41 of 212 passed", "127 of 212 passed", "198 of 212 passed"],
    seconds: (3.0, 6.4),
    measured: true,
    failure: failure(101, "tests_failed", "1 of 212 tests failed: orders::page::keeps_the_cursor"),
};

pub(super) static GIT_DIFF: Tool = Tool {
    name: "git_diff",
    params: |rng, _| json!({"base": "main", "paths": [file(rng)], "context": 3}),
    steps: &["3 files changed"],
    seconds: (0.7, 1.5),
    measured: false,
    failure: failure(128, "git", "fatal: bad revision 'main'"),
};

pub(super) static STATIC_ANALYSIS: Tool = Tool {
    name: "static_analysis",
    params: |rng, _| json!({"command": "cargo clippy", "deny": ["warnings"], "changed_only": rng.bool()}),
    steps: &["checking dependencies", "checking the crate"],
    seconds: (1.8, 3.8),
    measured: true,
    failure: failure(101, "warnings", "2 warnings: needless_borrow, large_futures"),
};

pub(super) static OPEN_PULL_REQUEST: Tool = Tool {
    name: "open_pull_request",
    params: |rng, subject| json!({"title": subject, "base": "main", "reviewers": [pick(rng, &["mira", "jon", "aya"])]}),
    steps: &["pushing the branch", "checks have started"],
    seconds: (1.4, 2.8),
    measured: false,
    failure: failure(1, "rejected", "the branch is behind main"),
};

pub(super) static QUERY_METRICS: Tool = Tool {
    name: "query_metrics",
    params: |rng, _| {
        let query =
            pick(rng, &["histogram_quantile(0.99, rate(http_seconds_bucket[5m]))", "node_filesystem_avail_bytes"]);
        json!({"query": query, "range": "1h", "step_s": 15})
    },
    steps: &["240 points", "comparing with last week"],
    seconds: (1.2, 2.6),
    measured: false,
    failure: failure(1, "bad_gateway", "the metrics store answers 502 Bad Gateway"),
};

pub(super) static SEARCH_LOGS: Tool = Tool {
    name: "search_logs",
    params: |rng, subject| {
        let minutes = 15 * rng.u32(1..5);
        json!({"query": format!("level:error {subject}"), "minutes": minutes, "limit": 200})
    },
    steps: &["1.2 million lines", "4 patterns found"],
    seconds: (1.6, 3.4),
    measured: true,
    failure: failure(1, "too_many_results", "more than 10,000 lines match"),
};

pub(super) static RESTART_SERVICE: Tool = Tool {
    name: "restart_service",
    params: |rng, _| {
        let service = pick(rng, &["checkout", "search", "media"]);
        json!({"service": service, "region": "eu-1", "max_unavailable": 1})
    },
    steps: &["1 of 4 instances ready", "2 of 4 instances ready", "4 of 4 instances ready"],
    seconds: (2.6, 5.0),
    measured: true,
    failure: failure(1, "not_ready", "an instance did not become ready"),
};

pub(super) static HTTP_CHECK: Tool = Tool {
    name: "http_check",
    params: |rng, _| json!({"url": "https://shop.example.com/health", "times": rng.u32(5..20), "expect": 200}),
    steps: &["5 of 5 healthy"],
    seconds: (0.8, 1.9),
    measured: false,
    failure: failure(22, "status_500", "2 of 5 responses were 500"),
};

pub(super) static POST_MESSAGE: Tool = Tool {
    name: "post_message",
    params: |_, subject| {
        let text = format!("Looked into {subject}; details in the run.");
        json!({"channel": "#incidents", "text": text})
    },
    steps: &[],
    seconds: (0.5, 1.2),
    measured: false,
    failure: failure(1, "rate_limited", "429 Too Many Requests"),
};
