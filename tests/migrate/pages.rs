//! The snippets of docs/migrate, run as written: the gateway is started, the page's code listens, and the back end's
//! code publishes. Only addresses are replaced.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    stage::python,
    support::{
        PATIENCE, eventually,
        gateway::client,
        pages::Page,
        redis::{RedisServer, free_port},
        terminal::{Session, Terminal},
        token::{SECRET, token},
    },
};

const REDIS: &str = "redis://127.0.0.1:6379";

/// A guide, and the processes that its snippets start.
struct Guide {
    page: Page,
    redis: RedisServer,
    /// The address on the page and the one of this test.
    address: (String, String),
}

impl Guide {
    fn new(system: &str, port: u16) -> Self {
        let page = Page::read(&format!("docs/migrate/{system}.md"));
        let languages: Vec<_> = page.blocks().into_iter().map(|block| block.language).collect();
        assert_eq!(languages, ["sh", "toml", "js", "python"], "each block of {} is run here", page.path);
        let address = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free_port()));
        Self { page, redis: RedisServer::start(), address }
    }

    /// The block of this language, with the addresses of this test.
    fn block(&self, language: &str) -> String {
        let block = self.page.blocks_of(language).remove(0);
        block.replace(REDIS, &self.redis.url()).replace(&self.address.0, &self.address.1)
    }

    async fn serve(&self) -> (Terminal, Session) {
        let mut terminal = Terminal::new(&self.redis);
        terminal.set("JWT_SECRET", SECRET);
        terminal.set("CREWCAST_LISTEN", &self.address.1);
        terminal.set("CREWCAST_ADMIN__LISTEN", "127.0.0.1:0");
        let session = terminal.start(&self.block("sh"));
        let url = format!("http://{}/health", self.address.1);
        eventually("the gateway answers", || async {
            client().get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        (terminal, session)
    }

    fn page(&self, token: &str) -> Child {
        let script = format!("const token = process.argv[1];\n{}", self.block("js"));
        let mut node = Command::new("node");
        node.args(["--experimental-websocket", "-e", &script, token]).stdin(Stdio::null()).stdout(Stdio::piped());
        node.kill_on_drop(true).spawn().unwrap()
    }

    async fn publish(&self) {
        let published = Command::new(python()).args(["-c", &self.block("python")]).status().await.unwrap();
        assert!(published.success());
    }

    /// Follows the guide until the page prints this line.
    async fn leads_to(&self, token: &str, expected: &str) {
        let (_terminal, _session) = self.serve().await;
        let mut page = self.page(token);
        let mut lines = BufReader::new(page.stdout.take().unwrap()).lines();
        let heard = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line == expected {
                    return;
                }
            }
            panic!("the page ends without {expected:?}");
        };
        // A live event reaches only pages that are connected already.
        let publishing = async {
            loop {
                self.publish().await;
            }
        };
        tokio::select! {
            () = heard => {}
            () = publishing => unreachable!("it never ends"),
            () = tokio::time::sleep(PATIENCE) => panic!("the page does not print {expected:?}"),
        }
    }
}

/// The profile's port is the one of the page, and the file of the page is valid.
fn settings_hold(system: &str, port: u16) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("crewcast.toml");
    let page = Page::read(&format!("docs/migrate/{system}.md"));
    std::fs::write(&file, page.blocks_of("toml").remove(0)).unwrap();
    let variables = [("CREWCAST_AUTH__HS256_SECRET".to_owned(), SECRET.to_owned())];
    let config = crewcast_gateway::config::load(Some(&file), variables, &[]).unwrap().config;
    config.check_serve().unwrap();
    assert_eq!(config.listen.0.to_string(), format!("0.0.0.0:{port}"));
}

#[tokio::test]
async fn the_guide_for_mission_control() {
    settings_hold("crew", 8000);
    let jwt = token(json!({ "org": null, "crews": ["abc"] }));
    Guide::new("crew", 8000).leads_to(&jwt, "tool_start search").await;
}

#[tokio::test]
async fn the_guide_for_agent_streams() {
    settings_hold("hive", 8765);
    let jwt = token(json!({ "org": null, "sub": null, "user_id": "u1", "streams": ["writer"] }));
    Guide::new("hive", 8765).leads_to(&jwt, "stream:writer execution_started").await;
}

#[tokio::test]
async fn the_guide_for_a_hives_hub() {
    settings_hold("hub", 3001);
    let expected = "task_started { task_id: 't1', agent_id: 'a1', attempt_number: 1 }";
    Guide::new("hub", 3001).leads_to("", expected).await;
}

#[tokio::test]
async fn the_guide_for_session_pages() {
    settings_hold("agentcraft", 8000);
    Guide::new("agentcraft", 8000).leads_to("", "Writer PROCESSING 40").await;
}

#[tokio::test]
async fn the_guide_for_a_forge() {
    settings_hold("forge", 8000);
    Guide::new("forge", 8000).leads_to("", "task_started t1").await;
}
