//! The text that `crewcast dev` prints when it runs: addresses, and commands for each way of watching and publishing.

/// The facts that the banner shows.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// The gateway's address without a trailing slash, for example `http://127.0.0.1:8000`.
    pub gateway: String,
    /// The address of the admin listener, likewise.
    pub admin: String,
    /// How this program was called, for commands that call it again.
    pub program: String,
    /// Host and port of the Redis that carries the events, or `None` for the memory broker. Never a password.
    pub redis: Option<(String, u16)>,
    /// The seed of the simulation, or `None` without one.
    pub simulation: Option<u64>,
    /// A note on each default port that is in use.
    pub moved: Vec<String>,
}

/// A tool call, which the console shows as the work of an agent named `you`.
const HELLO: &str = concat!(
    r#"{"type":"tool_start","crew_id":"forge","run_id":"mine","agent_id":"you","#,
    r#""tool":"hello","params":{"from":"FROM"}}"#
);

/// The text of the banner. It contains the token: print it to the terminal only, never to a log.
pub(crate) fn banner(addresses: &Addresses, token: &str) -> String {
    let Addresses { gateway, admin, program, redis, simulation, moved } = addresses;
    let sockets = gateway.replacen("http", "ws", 1);
    let hello = |from: &str| HELLO.replace("FROM", from);
    let mut out = Out::default();

    out.say(match simulation {
        Some(_) => "Crewcast is running with three simulated crews: atlas, forge and relay. Press Ctrl-C to stop.",
        None => "Crewcast is running without simulated crews: it shows what you publish. Press Ctrl-C to stop.",
    });
    out.head("Open");
    out.fact("Console", &format!("{gateway}/ws/client#token={token}"));
    out.fact("Metrics", &format!("{admin}/metrics"));
    for note in moved {
        out.fact("Port", note);
    }
    if let Some(seed) = simulation {
        out.fact("Seed", &format!("{seed} (repeat this simulation with --seed {seed})"));
    }
    out.fact(
        "Events",
        match redis {
            Some((host, port)) => format!("in the Redis at {host}:{port}"),
            None => "in the memory of this process, which no Redis client reaches; to send them through a Redis, start with \
                     CREWCAST_REDIS_URL=redis://127.0.0.1:6379"
                .to_owned(),
        }
        .as_str(),
    );

    out.head("Run this first: the commands below use it");
    out.paste(&format!("export CREWCAST_URL={gateway} CREWCAST_TOKEN={token}"));

    out.head("Watch (the `node` command needs Node.js 22 or later)");
    out.paste(&format!("{program} tail graph:forge mission:forge"));
    out.paste(&format!(
        "node -e 'new WebSocket(\"{sockets}/ws/graph\", [\"token\", process.env.CREWCAST_TOKEN]).onmessage = \
         m => console.log(m.data)'"
    ));
    out.paste(&format!("websocat -H \"Authorization: Bearer $CREWCAST_TOKEN\" {sockets}/ws/mission"));
    out.paste("curl -sN -H \"Authorization: Bearer $CREWCAST_TOKEN\" \"$CREWCAST_URL/sse?channel=graph:forge\"");

    out.head("Publish: the console shows the event under the agent `you`");
    out.paste(&format!("{program} publish --gateway \"$CREWCAST_URL\" graph:forge '{}'", hello("the command line")));
    out.paste(&format!(
        "curl -s -H \"Authorization: Bearer $CREWCAST_TOKEN\" -H 'Content-Type: application/json' \
         -d '{{\"channel\":\"graph:forge\",\"event\":{}}}' \"$CREWCAST_URL/api/v1/publish\"",
        hello("curl")
    ));
    if let Some((host, port)) = redis {
        out.paste(&format!("redis-cli -h {host} -p {port} PUBLISH graph:forge '{}'", hello("redis-cli")));
    }
    out.text
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn say(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
    }

    fn head(&mut self, title: &str) {
        self.say("");
        self.say(title);
    }

    fn fact(&mut self, name: &str, value: &str) {
        self.say(&format!("  {name:<8} {value}"));
    }

    /// The deeper indent marks commands.
    fn paste(&mut self, line: &str) {
        self.say(&format!("    {line}"));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn addresses(redis: Option<(String, u16)>) -> Addresses {
        Addresses {
            gateway: "http://127.0.0.1:8000".to_owned(),
            admin: "http://127.0.0.1:9090".to_owned(),
            program: "target/debug/crewcast".to_owned(),
            redis,
            simulation: Some(42),
            moved: vec!["8000 is in use: 8001 instead".to_owned()],
        }
    }

    fn pasted(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("    ")).collect()
    }

    #[test]
    fn it_shows_every_way_to_watch_and_publish() {
        let text = banner(&addresses(Some(("127.0.0.1".to_owned(), 6379))), "aaa.bbb.ccc");
        for part in [
            "http://127.0.0.1:8000/ws/client#token=aaa.bbb.ccc",
            "http://127.0.0.1:9090/metrics",
            "--seed 42",
            "three simulated crews",
            "8000 is in use: 8001 instead",
            "export CREWCAST_URL=http://127.0.0.1:8000 CREWCAST_TOKEN=aaa.bbb.ccc",
            "target/debug/crewcast tail graph:forge mission:forge",
            "ws://127.0.0.1:8000/ws/graph",
            "ws://127.0.0.1:8000/ws/mission",
            "/sse?channel=graph:forge",
            "target/debug/crewcast publish --gateway",
            "/api/v1/publish",
            "redis-cli -h 127.0.0.1 -p 6379 PUBLISH graph:forge",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert_eq!(pasted(&text).len(), 8, "{text}");
    }

    #[test]
    fn without_redis_there_is_no_command_for_it() {
        let text = banner(&addresses(None), "aaa.bbb.ccc");
        assert!(!text.contains("redis-cli"), "{text}");
        assert!(text.contains("CREWCAST_REDIS_URL"), "{text}");
    }

    #[test]
    fn without_a_simulation_the_banner_names_no_crews_and_no_seed() {
        let text = banner(&Addresses { simulation: None, moved: vec![], ..addresses(None) }, "aaa.bbb.ccc");
        assert!(text.contains("without simulated crews") && !text.contains("atlas"), "{text}");
        assert!(!text.contains("Seed") && !text.contains("Port"), "{text}");
    }

    #[test]
    fn every_command_is_valid_shell() {
        let mut published = 0;
        for line in pasted(&banner(&addresses(Some(("127.0.0.1".to_owned(), 6379))), "aaa.bbb.ccc")) {
            // `set --` makes the shell parse the words without running the program.
            let script =
                format!("CREWCAST_URL=u CREWCAST_TOKEN=t; set -- {line}; for word; do printf '%s\\n' \"$word\"; done");
            let output = Command::new("sh").arg("-c").arg(&script).output().unwrap();
            assert!(output.status.success(), "{line}");
            let words = String::from_utf8(output.stdout).unwrap();
            for json in words.lines().filter(|word| word.starts_with('{')) {
                let value: serde_json::Value = serde_json::from_str(json).unwrap();
                let event = value.get("event").unwrap_or(&value);
                serde_json::from_value::<crewcast_events::catalog::tool::ToolKind>(event.clone()).unwrap();
                published += 1;
            }
        }
        assert_eq!(published, 3);
    }
}
