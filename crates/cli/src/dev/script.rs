//! The crews, agents and tasks of the simulation.

use fastrand::Rng;

use super::tools::{self, Tool};

/// One crew and the content of its runs.
pub(super) struct Crew {
    pub(super) id: &'static str,
    /// The possible subjects of a run.
    pub(super) subjects: &'static [&'static str],
    /// Stages run one after the other. The tasks of one stage run at the same time.
    pub(super) stages: &'static [&'static [Task]],
    /// The output of a successful run.
    pub(super) result: &'static str,
    /// Shortest and longest pause between two runs, in seconds.
    pub(super) rest: (f64, f64),
    /// Whether the crew goes offline now and then.
    pub(super) leaves: bool,
}

/// The work of one agent in a run.
pub(super) struct Task {
    pub(super) agent_id: &'static str,
    pub(super) agent: &'static str,
    pub(super) title: &'static str,
    pub(super) calls: &'static [&'static Tool],
    /// The result of the task.
    pub(super) output: &'static str,
}

/// How a run is going to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Success,
    Error,
    Cancelled,
}

/// The crews. The second one pauses only briefly, so that there is always something to see.
pub(super) static CREWS: [Crew; 3] = [
    Crew {
        id: "atlas",
        subjects: &[
            "Tidal energy in northern Europe",
            "The cost of battery recycling",
            "Heat in cities by district",
            "Faults of deep-sea cables",
            "Rail freight after 2020",
        ],
        stages: &[
            &[Task {
                agent_id: "planner",
                agent: "Planner",
                title: "Plan the report",
                calls: &[&tools::VECTOR_SEARCH],
                output: "4 sections, 6 questions",
            }],
            &[
                Task {
                    agent_id: "researcher",
                    agent: "Researcher",
                    title: "Collect sources",
                    calls: &[&tools::WEB_SEARCH, &tools::FETCH_PAGE, &tools::WEB_SEARCH],
                    output: "9 sources, 3 of them agree",
                },
                Task {
                    agent_id: "analyst",
                    agent: "Analyst",
                    title: "Compute the figures",
                    calls: &[&tools::SQL_QUERY, &tools::PYTHON],
                    output: "trend.png, 11 rows",
                },
            ],
            &[Task {
                agent_id: "writer",
                agent: "Writer",
                title: "Write the report",
                calls: &[&tools::WRITE_FILE, &tools::WRITE_FILE],
                output: "report.md, 1,420 words",
            }],
            &[Task {
                agent_id: "planner",
                agent: "Planner",
                title: "Check every claim",
                calls: &[&tools::FACT_CHECK],
                output: "every claim has a source",
            }],
        ],
        result: "report.md",
        rest: (1.5, 4.0),
        leaves: false,
    },
    Crew {
        id: "forge",
        subjects: &[
            "Retry with jitter in the HTTP client",
            "Page through /orders with a cursor",
            "The image cache never shrinks",
            "The login test fails on Mondays",
            "Stream large exports",
        ],
        stages: &[
            &[Task {
                agent_id: "architect",
                agent: "Architect",
                title: "Read the code and plan the change",
                calls: &[&tools::READ_FILE, &tools::VECTOR_SEARCH, &tools::READ_FILE],
                output: "change 3 files, add 2 tests",
            }],
            &[Task {
                agent_id: "coder",
                agent: "Coder",
                title: "Write the change",
                calls: &[&tools::READ_FILE, &tools::EDIT_FILE, &tools::RUN_TESTS],
                output: "+84 −31 in 3 files",
            }],
            &[
                Task {
                    agent_id: "tester",
                    agent: "Tester",
                    title: "Run the test suite",
                    calls: &[&tools::RUN_TESTS],
                    output: "212 tests passed",
                },
                Task {
                    agent_id: "reviewer",
                    agent: "Reviewer",
                    title: "Review the diff",
                    calls: &[&tools::GIT_DIFF, &tools::READ_FILE, &tools::STATIC_ANALYSIS],
                    output: "approved with one comment",
                },
            ],
            &[Task {
                agent_id: "coder",
                agent: "Coder",
                title: "Open the pull request",
                calls: &[&tools::GIT_DIFF, &tools::OPEN_PULL_REQUEST],
                output: "pull request opened",
            }],
        ],
        result: "pull request opened",
        rest: (0.8, 1.6),
        leaves: false,
    },
    Crew {
        id: "relay",
        subjects: &[
            "slow responses from checkout-eu",
            "the disk of db-3 fills up",
            "errors after release 4.18",
            "the certificate of api.example.com",
        ],
        stages: &[
            &[
                Task {
                    agent_id: "triager",
                    agent: "Triager",
                    title: "Triage the alert",
                    calls: &[&tools::QUERY_METRICS, &tools::SEARCH_LOGS],
                    output: "started 14 minutes ago, one region",
                },
                Task {
                    agent_id: "historian",
                    agent: "Historian",
                    title: "Find similar incidents",
                    calls: &[&tools::VECTOR_SEARCH, &tools::SQL_QUERY],
                    output: "2 similar, both after a release",
                },
            ],
            &[Task {
                agent_id: "responder",
                agent: "Responder",
                title: "Fix the cause",
                calls: &[&tools::RESTART_SERVICE, &tools::HTTP_CHECK, &tools::QUERY_METRICS],
                output: "back to normal",
            }],
            &[Task {
                agent_id: "triager",
                agent: "Triager",
                title: "Write the summary",
                calls: &[&tools::POST_MESSAGE],
                output: "posted to #incidents",
            }],
        ],
        result: "resolved",
        rest: (3.0, 9.0),
        leaves: true,
    },
];

/// Draws the endings of runs. Of eight runs, one fails and one is cancelled, so that both are seen soon.
pub(super) struct EndingDeck {
    deck: Vec<Ending>,
}

impl EndingDeck {
    pub(super) fn new() -> Self {
        Self { deck: Vec::new() }
    }

    pub(super) fn draw(&mut self, rng: &mut Rng) -> Ending {
        if self.deck.is_empty() {
            self.deck = vec![Ending::Success; 6];
            self.deck.extend([Ending::Error, Ending::Cancelled]);
            rng.shuffle(&mut self.deck);
        }
        self.deck.pop().unwrap_or(Ending::Success)
    }
}
