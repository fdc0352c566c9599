//! The tutorial and the how-to guides, followed as written. Only addresses and paths are replaced.

use crewcast_gateway::config::load;
use serde_json::json;

use crate::support::{
    eventually,
    gateway::{self, Gateway, client},
    pages::Page,
    redis::{Certificates, RedisServer, free_port},
    root,
    terminal::{Session, Terminal},
    token::{SECRET, token},
};

/// The pages of this file and of `readme.rs`, and which of their code blocks are run by what.
const BLOCKS: [(&str, &str, &str); 11] = [
    ("docs/tutorial-first-crew.md", "sh", "the_tutorial; but for the lines that clone and build"),
    ("docs/tutorial-first-crew.md", "text", "the_tutorial compares"),
    ("docs/troubleshooting.md", "sh", "every_command_of_troubleshooting_runs"),
    ("docs/upgrade.md", "sh", "the_commands_of_an_upgrade_run"),
    ("docs/tls.md", "sh", "redis_over_tls"),
    ("docs/tls.md", "toml", "the_files_of_tls"),
    ("docs/tls.md", "yaml", "the_files_of_tls compares it with the ingress; there is no Kubernetes here"),
    ("docs/tls.md", "nginx", "nginx_terminates_tls"),
    ("docs/sizing.md", "sh", "crates/bench/tests/sizing.rs; but for the line that builds"),
    ("docs/comparison.md", "", "has none"),
    ("docs/glossary.md", "", "has none"),
];

#[test]
fn every_block_of_a_guide_is_run() {
    let mut contents = Page::all();
    contents.retain(|page| listed_as_guide(&page.path));
    assert!(contents.len() >= 6, "{contents:?}");
    for page in contents {
        for block in page.blocks() {
            let known = BLOCKS.iter().any(|(path, language, _)| *path == page.path && *language == block.language);
            assert!(known, "nothing runs this {:?} of {}: {}", block.language, page.path, block.text);
        }
    }
}

/// Of the tutorial and of the how-to guides, all that have no test file of their own. `tests/migrate` runs the guides
/// of other systems.
fn listed_as_guide(path: &str) -> bool {
    let contents = ["docs/tutorial.md", "docs/how-to.md"].map(|path| Page::read(path).text).concat();
    let name = path.trim_start_matches("docs/");
    let is_run_elsewhere = path == "docs/operations.md" || name.starts_with("migrate/");
    let is_guide = contents.contains(&format!("]({name})")) && !is_run_elsewhere;
    is_guide || BLOCKS.iter().any(|(listed, ..)| *listed == path)
}

const REDIS: &str = "redis://127.0.0.1:6379";
const GATEWAY: &str = "http://127.0.0.1:8000";
const ADMIN: &str = "http://127.0.0.1:9090";

/// A script with the test's addresses instead of the page's.
fn adapted(script: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(script.to_owned(), |script, (from, to)| script.replace(from, to))
}

/// The tutorial's three terminals: one folder, the same variables.
struct Tutorial {
    terminal: Terminal,
    blocks: Vec<String>,
    listen: String,
}

impl Tutorial {
    fn new(redis: &RedisServer) -> Self {
        let mut terminal = Terminal::new(redis);
        let listen = format!("127.0.0.1:{}", free_port());
        terminal.set("CREWCAST_LISTEN", &listen);
        terminal.set("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0");
        terminal.set("CREWCAST_URL", format!("http://{listen}"));
        // Otherwise Ctrl-C takes up to fifteen seconds.
        terminal.set("CREWCAST_DRAIN__SPREAD", "500ms");
        let url = redis.url();
        let blocks = Page::read("docs/tutorial-first-crew.md").blocks_of("sh");
        let blocks = blocks.iter().map(|block| adapted(block, &[(REDIS, &url)])).collect();
        Self { terminal, blocks, listen }
    }

    /// A block, behind the variables that each terminal needs.
    fn script(&self, number: usize, part: &str) -> String {
        assert!(self.blocks[number].contains(part), "{part}: {}", self.blocks[number]);
        format!("{}{}", self.blocks[1], self.blocks[number])
    }

    async fn run(&self, number: usize, part: &str) -> String {
        self.terminal.run(&self.script(number, part)).await.out
    }

    fn start(&self, number: usize, part: &str) -> Session {
        self.terminal.start(&self.script(number, part))
    }

    async fn serve(&self, number: usize) -> Session {
        let session = self.start(number, "crewcast serve");
        eventually("the gateway answers", || async {
            let answer = client().get(format!("http://{}/health", self.listen)).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        session
    }
}

/// A line of `crewcast tail` without its time of day.
fn event(line: &str) -> &str {
    line.split_once(' ').unwrap().1
}

/// The next line that tells of an event of the crew.
async fn next_event(tail: &mut Session) -> String {
    loop {
        let line = tail.line().await.expect("tail goes on");
        if !line.ends_with(" knock") {
            return event(&line).to_owned();
        }
    }
}

#[tokio::test]
async fn the_tutorial() {
    let redis = RedisServer::start();
    let tutorial = Tutorial::new(&redis);
    let shown = Page::read("docs/tutorial-first-crew.md").blocks_of("text");
    let secret = tutorial.blocks[0].lines().last().unwrap();
    assert!(secret.starts_with("openssl "), "{secret}");
    tutorial.terminal.run(secret).await;

    let mut serve = tutorial.serve(2).await;
    for _ in 0..4 {
        let line = serve.line().await.unwrap();
        assert!(line.starts_with("ok "), "{line}");
    }
    let told = tutorial.run(3, "crewcast register crew abc").await;
    assert!(told.contains("acme") && told.contains("abc"), "{told}");

    let mut tail = tutorial.start(4, "crewcast tail");
    loop {
        redis.publish("graph:abc", br#"{"type":"knock"}"#);
        if tail.try_line().await.is_some() {
            break;
        }
    }
    let id = tutorial.run(5, "--live").await;
    let lines: Vec<_> = shown[0].lines().map(event).collect();
    assert_eq!([next_event(&mut tail).await, next_event(&mut tail).await], [lines[0], lines[1]]);
    assert!(id.starts_with("1-") && id.len() == 14, "{id}");

    assert_eq!(tail.interrupt().await, Some(130));
    tutorial.run(6, "tool_progress").await;
    let mut tail = tutorial.start(7, "--since");
    assert_eq!(next_event(&mut tail).await, event(shown[1].trim_end()), "the logged one alone");

    assert_eq!(serve.interrupt().await, Some(0));
    tutorial.run(8, "summarize").await;
    let _serve = tutorial.serve(9).await;
    let line = next_event(&mut tail).await;
    assert!(line.contains("tool=summarize"), "{line}");
    assert_eq!(tutorial.blocks.len(), 10);
}

/// A terminal for a gateway on this Redis, with a token for crew `abc` in `token.jwt`.
fn terminal(redis: &RedisServer, gateway: &Gateway) -> Terminal {
    let mut terminal = Terminal::new(redis);
    terminal.set("CREWCAST_AUTH__HS256_SECRET", SECRET);
    terminal.set("CREWCAST_URL", gateway.url(""));
    terminal.write("token.jwt", &token(json!({ "crews": ["abc"], "runs": ["r1"], "publish": ["graph:*"] })));
    terminal
}

/// All shell blocks of a page as one script on this gateway.
fn script(page: &Page, redis: &RedisServer, gateway: &Gateway) -> String {
    let admin = format!("http://{}", gateway.admin);
    let changes = [(REDIS, &*redis.url()), (GATEWAY, &gateway.url("")), (ADMIN, &admin)];
    adapted(&page.blocks_of("sh").concat(), &changes)
}

#[tokio::test]
async fn every_command_of_troubleshooting_runs() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let terminal = terminal(&redis, &gateway);
    let page = Page::read("docs/troubleshooting.md");
    assert!(page.blocks_of("sh").len() > 25);
    let said = terminal.run(&script(&page, &redis, &gateway)).await;
    for part in
        ["PONG", "noeviction", "101 Switching Protocols", "\"ticket\"", "crewcast_draining 0", "\"channel\":\"run:r1\""]
    {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
}

/// What stands between backticks and holds for a word.
fn quoted(text: &str, holds: impl Fn(&str) -> bool) -> Vec<String> {
    text.split('`').skip(1).step_by(2).filter(|word| holds(word)).map(str::to_owned).collect()
}

#[test]
fn troubleshooting_has_every_close_code_and_problem_type() {
    let page = Page::read("docs/troubleshooting.md").text;
    let metrics = Page::read("docs/metrics.md").text;
    let closed = metrics.lines().find(|line| line.starts_with("| `crewcast_connections_closed_total`")).unwrap();
    let codes = quoted(closed, |word| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit()));
    let types = quoted(&Page::read("docs/http.md").text, |word| word.starts_with("urn:crewcast:problem:"));
    assert!(codes.len() >= 17 && types.len() >= 14, "{codes:?} {types:?}");
    // 1000 is no fault.
    for word in codes.iter().filter(|code| *code != "1000").chain(&types) {
        assert!(page.contains(word.as_str()), "{word}");
    }
}

#[tokio::test]
async fn the_commands_of_an_upgrade_run() {
    let redis = RedisServer::start();
    let gateway = gateway::on(&redis, &[]).await;
    let said = terminal(&redis, &gateway).run(&script(&Page::read("docs/upgrade.md"), &redis, &gateway)).await;
    let version = env!("CARGO_PKG_VERSION");
    assert!(said.out.contains(&format!("crewcast {version}")), "{said:?}");
    assert!(said.out.contains(&format!("version=\"{version}\"")), "{said:?}");
}

#[tokio::test]
async fn redis_over_tls() {
    let certificates = Certificates::make();
    let (redis, port) = certificates.start_server();
    let mut terminal = Terminal::new(&redis);
    terminal.set("CREWCAST_AUTH__HS256_SECRET", SECRET);
    let path = |name: &str| certificates.path(name).display().to_string();
    let blocks = Page::read("docs/tls.md").blocks_of("sh");
    assert_eq!(blocks.len(), 1);
    let url = format!("rediss://127.0.0.1:{port}");
    let changes = [
        ("rediss://redis.internal:6379", &*url),
        ("/etc/crewcast/ca.pem", &path("ca.pem")),
        ("/etc/crewcast/client.pem", &path("client.pem")),
        ("/etc/crewcast/client.key", &path("client.key")),
    ];
    for (from, _) in changes {
        assert!(blocks[0].contains(from), "{from}");
    }
    let said = terminal.run(&adapted(&blocks[0], &changes)).await;
    assert!(said.out.lines().count() > 4 && !said.out.contains("WRONG"), "{said:?}");
}

#[test]
fn the_files_of_tls() {
    let page = Page::read("docs/tls.md");
    let ingress = std::fs::read_to_string(root().join("k8s/overlays/production/ingress.yaml")).unwrap();
    let without_layout = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(without_layout(&ingress).contains(&without_layout(&page.block("yaml", "secretName"))));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crewcast.toml");
    std::fs::write(&file, page.block("toml", "trusted_proxies")).unwrap();
    let variables = [("CREWCAST_AUTH__HS256_SECRET".to_owned(), SECRET.to_owned())];
    load(Some(&file), variables, &[]).unwrap().config.check_serve().unwrap();
}

/// deploy/nginx/crewcast.conf with the lines of the page, in front of a gateway.
#[tokio::test]
async fn nginx_terminates_tls() {
    let gateway = gateway::memory(&[]).await;
    let certificates = Certificates::make();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port();
    let lines = Page::read("docs/tls.md").block("nginx", "listen 443 ssl;");
    let listen = format!("listen 127.0.0.1:{port} ssl;");
    let changes = [
        ("listen 80;", &*lines),
        ("listen 443 ssl;", &listen),
        ("/etc/nginx/tls/live.example.com.pem", &certificates.path("server.pem").display().to_string()),
        ("/etc/nginx/tls/live.example.com.key", &certificates.path("server.key").display().to_string()),
        ("crewcast-1:8000", &gateway.public),
        ("crewcast-2:8000", &gateway.public),
        ("/var/log/nginx/access.log", &at("access.log")),
    ];
    let server = std::fs::read_to_string(root().join("deploy/nginx/crewcast.conf")).unwrap();
    let folders =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {};", at(name)));
    let main = format!("daemon off; master_process off; pid {}; error_log {};", at("pid"), at("error.log"));
    let whole = format!("{main}\nevents {{}}\nhttp {{ {} {} }}\n", folders.concat(), adapted(&server, &changes));
    std::fs::write(at("nginx.conf"), whole).unwrap();
    let debian = std::path::Path::new("/usr/sbin/nginx");
    let program = if debian.exists() { debian } else { std::path::Path::new("nginx") };
    let _nginx = tokio::process::Command::new(program)
        .args(["-p", &at(""), "-c", &at("nginx.conf"), "-e", &at("error.log")])
        .kill_on_drop(true)
        .spawn()
        .expect("nginx is needed: run `make test`, which installs it");
    let authority = certificates.path("ca.pem").display().to_string();
    eventually("nginx serves over TLS", || async {
        let url = format!("https://127.0.0.1:{port}/health");
        let curl = tokio::process::Command::new("curl").args(["-s", "--cacert", &authority, &url]).output().await;
        curl.expect("curl is needed").stdout == br#"{"status":"ok"}"#
    })
    .await;
}

/// The rows of speeds on the page of comparison stand on the page of measurements.
#[test]
fn compared_speeds_are_measured_ones() {
    let comparison = Page::read("docs/comparison.md").text;
    let performance = Page::read("docs/performance.md").text;
    let is_of_a_server = |row: &&str| row.starts_with("| ") && !row.starts_with("|  |");
    let rows: Vec<_> = comparison.split("## Speed").nth(1).unwrap().lines().filter(is_of_a_server).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert!(performance.lines().any(|measured| measured == row), "{row}");
    }
}
