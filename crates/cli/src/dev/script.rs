//! Who works in the simulation, and on what.

use fastrand::Rng;

use super::tools::{self, Tool};

/// One crew and what its runs consist of.
pub(super) struct Crew {
    pub(super) id: &'static str,
    /// What a run can be about.
    pub(super) subjects: &'static [&'static str],
    /// Done one after the other; the tasks of one stage at the same time.
    pub(super) stages: &'static [&'static [Task]],
    /// What a run that went well ends with.
    pub(super) result: &'static str,
    /// Shortest and longest rest between two runs, in seconds.
    pub(super) rest: (f64, f64),
    /// Whether the crew is away now and then.
    pub(super) leaves: bool,
}

/// What one agent does in a run.
pub(super) struct Task {
    pub(super) agent_id: &'static str,
    pub(super) agent: &'static str,
    pub(super) title: &'static str,
    pub(super) calls: &'static [&'static Tool],
    /// What comes out of it.
    pub(super) output: &'static str,
}

/// How a run will end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Success,
    Error,
    Cancelled,
}

/// The crews. The second one's rests are short, so that there is always something to see.
pub(super) static CREWS: [Crew; 3] = [
    Crew {
        id: "atlas",
        subjects: &[
            "Tidal energy in northern Europe",
            "What recycling a battery costs",
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
                    title: "Work out the figures",
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
                    title: "Run the whole suite",
                    calls: &[&tools::RUN_TESTS],
                    output: "212 tests passed",
                },
                Task {
                    agent_id: "reviewer",
                    agent: "Reviewer",
                    title: "Review the difference",
                    calls: &[&tools::GIT_DIFF, &tools::READ_FILE, &tools::STATIC_ANALYSIS],
                    output: "approved with one remark",
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
            "slow answers of checkout-eu",
            "the disk of db-3 fills up",
            "errors after release 4.18",
            "the certificate of api.example.com",
        ],
        stages: &[
            &[
                Task {
                    agent_id: "triager",
                    agent: "Triager",
                    title: "Look at the alert",
                    calls: &[&tools::QUERY_METRICS, &tools::SEARCH_LOGS],
                    output: "began 14 minutes ago, one region",
                },
                Task {
                    agent_id: "historian",
                    agent: "Historian",
                    title: "Find earlier cases",
                    calls: &[&tools::VECTOR_SEARCH, &tools::SQL_QUERY],
                    output: "2 alike, both after a release",
                },
            ],
            &[Task {
                agent_id: "responder",
                agent: "Responder",
                title: "Mend it",
                calls: &[&tools::RESTART_SERVICE, &tools::HTTP_CHECK, &tools::QUERY_METRICS],
                output: "back to normal",
            }],
            &[Task {
                agent_id: "triager",
                agent: "Triager",
                title: "Write the note",
                calls: &[&tools::POST_MESSAGE],
                output: "posted to #incidents",
            }],
        ],
        result: "resolved",
        rest: (3.0, 9.0),
        leaves: true,
    },
];

/// Deals how runs end: of eight one fails and one is cancelled, so that nobody waits long for either.
pub(super) struct Fates {
    deck: Vec<Fate>,
}

impl Fates {
    pub(super) fn new() -> Self {
        Self { deck: Vec::new() }
    }

    pub(super) fn deal(&mut self, rng: &mut Rng) -> Fate {
        if self.deck.is_empty() {
            self.deck = vec![Fate::Success; 6];
            self.deck.extend([Fate::Error, Fate::Cancelled]);
            rng.shuffle(&mut self.deck);
        }
        self.deck.pop().unwrap_or(Fate::Success)
    }
}
