//! Redis, a gateway under a system's profile, and the programs of that system.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::support::{
    PATIENCE,
    gateway::{self, Gateway},
    redis::RedisServer,
    root,
};

/// One browser runs at a time, because each takes a core.
static BROWSER: Mutex<()> = Mutex::const_new(());

/// The pages are served from another port than the gateway.
const ORIGINS: &str = "http://127.0.0.1:*";

pub(crate) struct Stage {
    system: &'static str,
    pub(crate) redis: RedisServer,
    pub(crate) gateway: Gateway,
}

impl Stage {
    pub(crate) async fn of(system: &'static str) -> Self {
        Self::with(system, &[]).await
    }

    pub(crate) async fn with(system: &'static str, settings: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let gateway = Self::serve(&redis, system, settings).await;
        Self { system, redis, gateway }
    }

    async fn serve(redis: &RedisServer, system: &str, settings: &[(&str, &str)]) -> Gateway {
        let mut all = vec![("CREWCAST_PROFILE", system), ("CREWCAST_ALLOWED_ORIGINS", ORIGINS)];
        all.extend_from_slice(settings);
        gateway::on(redis, &all).await
    }

    /// Kills the gateway and starts another one with these settings.
    pub(crate) async fn restart(&mut self, settings: &[(&str, &str)]) {
        self.gateway.kill();
        self.gateway = Self::serve(&self.redis, self.system, settings).await;
    }

    /// Starts a client of the system with `ws` in Node, behind the gateway's address.
    pub(crate) fn node(&self, file: &str, arguments: &[&str]) -> Program {
        let file = format!("{}/{file}", self.system);
        self.start("node", &[&[&*file, &self.gateway.ws("")], arguments].concat())
    }

    /// Starts a client of the system in Python, behind the gateway's address.
    pub(crate) fn python(&self, file: &str, arguments: &[&str]) -> Program {
        let file = format!("{}/{file}", self.system);
        self.start(&python(), &[&[&*file, &self.gateway.ws("")], arguments].concat())
    }

    /// Opens the page of the system in Chromium. `parameters` are `name=value` of its address.
    pub(crate) async fn page(&self, parameters: &[&str]) -> Page {
        let one = BROWSER.lock().await;
        let program = self.start("node", &[&["browser.mjs", self.system, &self.gateway.ws("")], parameters].concat());
        Page { program, _one: one }
    }

    /// Opens another page beside one that is open.
    pub(crate) fn page_beside(&self, _open: &Page, parameters: &[&str]) -> Program {
        self.start("node", &[&["browser.mjs", self.system, &self.gateway.ws("")], parameters].concat())
    }

    /// Starts the back end of the system, which repeats its idle events until it plays its story.
    pub(crate) fn backend(&self) -> Program {
        self.start(&python(), &[&format!("{}/backend.py", self.system), &self.redis.url()])
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Program {
        let folder = root().join("tests/migrate");
        assert!(folder.join("node_modules/ws").exists(), "run `make test`, or `npm ci` in tests/migrate");
        let mut command = Command::new(program);
        command.current_dir(folder).args(arguments).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take().unwrap();
        Program { _child: child, input, lines, idle: Vec::new() }
    }
}

pub(crate) fn python() -> String {
    std::env::var("TEST_PYTHON").expect("run `make test`, or tests/setup.sh and set TEST_PYTHON")
}

/// A page in Chromium; derefs to the program that drives it.
pub(crate) struct Page {
    program: Program,
    _one: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Page {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl std::ops::DerefMut for Page {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// A client or a back end, and the lines that it prints.
pub(crate) struct Program {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines of the time before the story.
    idle: Vec<String>,
}

impl Program {
    /// The next line, while one of `wanted` is still to come. Idle events never stop, so the wait has an end of its
    /// own.
    async fn line(&mut self, wanted: &[String], end: Instant) -> String {
        let line = tokio::time::timeout_at(end, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("these lines do not come: {wanted:?}"));
        line.unwrap().unwrap_or_else(|| panic!("it ends before these lines: {wanted:?}"))
    }

    /// Waits until each of these lines has come, in any order. They and every other line of that time may come again
    /// later.
    pub(crate) async fn is_idle(&mut self, wanted: &[&str]) {
        let mut missing: Vec<String> = wanted.iter().map(|&line| line.to_owned()).collect();
        let end = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            let line = self.line(&missing, end).await;
            missing.retain(|wanted| *wanted != line);
            if !self.idle.contains(&line) {
                self.idle.push(line);
            }
        }
    }

    /// These lines are of the time before the story, though they may not have come yet: a page shows in one step what
    /// it received in several.
    pub(crate) fn has_idle(&mut self, lines: &[&str]) {
        self.idle.extend(lines.iter().map(|&line| line.to_owned()));
    }

    /// From now on this line counts, though it has come before the story.
    pub(crate) fn forgets(&mut self, line: &str) {
        self.idle.retain(|idle| idle != line);
    }

    /// Waits until each of these lines has come. Lines that begin with the same word come in this order, and no other
    /// line of that word comes between them.
    pub(crate) async fn shows(&mut self, wanted: &[&str]) {
        let mut missing: Vec<String> = wanted.iter().map(|&line| line.to_owned()).collect();
        let end = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            let line = self.line(&missing, end).await;
            if self.idle.contains(&line) {
                continue;
            }
            let word = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
            let next = missing.iter().position(|wanted| word(wanted) == word(&line));
            if let Some(next) = next {
                assert_eq!(line, missing.remove(next), "then {missing:?}");
            }
        }
    }

    /// Waits until this line has come, as the only one since the time before the story.
    pub(crate) async fn shows_only(&mut self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let line = self.line(&[wanted.to_owned()], end).await;
            if line == wanted {
                return;
            }
            assert!(self.idle.contains(&line), "{line:?} instead of {wanted:?}");
        }
    }

    /// Waits for this line, whatever comes before it.
    pub(crate) async fn reaches(&mut self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while self.line(&[wanted.to_owned()], end).await != wanted {}
    }

    /// Lets the system's back end play its story as soon as each of the idle lines has come, and waits until the story
    /// is shown.
    pub(crate) async fn follows(&mut self, stage: &Stage, idle: &[&str], story: &[&str]) {
        let mut backend = stage.backend();
        self.is_idle(idle).await;
        backend.play().await;
        self.shows(story).await;
    }

    /// Lets a back end play its story once.
    pub(crate) async fn play(&mut self) {
        self.input.write_all(b"play\n").await.unwrap();
        self.reaches("played").await;
    }
}
