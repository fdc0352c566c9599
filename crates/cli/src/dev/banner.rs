//! What `crewcast dev` prints when it is up: where to look, and a line to paste for each way of watching and
//! publishing.

/// Where things are.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The gateway, for example `http://127.0.0.1:8000`, without a slash at its end.
    pub gateway: String,
    /// The operator's listener, likewise.
    pub admin: String,
    /// How this program was called, for lines that call it again.
    pub program: String,
    /// Host and port of the Redis that carries the events; `None`: they stay in this process. Never a
    /// password: the lines are printed.
    pub redis: Option<(String, u16)>,
    /// The simulation's seed.
    pub seed: u64,
}

/// A tool call that shows up in the console as the work of an agent called `you`.
const HELLO: &str = r#"{"type":"tool_start","crew_id":"forge","run_id":"mine","agent_id":"you","tool":"hello","params":{"from":"FROM"}}"#;

/// The text. It holds the token: it is for the terminal of who started the program, not for a log.
pub fn banner(addresses: &Addresses, token: &str) -> String {
    let Addresses { gateway, admin, program, redis, seed } = addresses;
    let sockets = gateway.replacen("http", "ws", 1);
    let hello = |from: &str| HELLO.replace("FROM", from);
    let mut out = Out::default();

    out.say("Crewcast is up, and three simulated crews work: atlas, forge and relay. Ctrl-C ends it.");
    out.head("See it");
    out.fact("Console", &format!("{gateway}/ws/client#token={token}"));
    out.fact("Metrics", &format!("{admin}/metrics"));
    out.fact("Seed", &format!("{seed} (the same course again: --seed {seed})"));
    out.fact(
        "Events",
        match redis {
            Some((host, port)) => format!("in the Redis at {host}:{port}"),
            None => "in this process; with CREWCAST_REDIS_URL set they go through Redis".to_owned(),
        }
        .as_str(),
    );

    out.head("Paste this first: the lines below use it");
    out.paste(&format!("export CREWCAST_URL={gateway} CREWCAST_TOKEN={token}"));

    out.head("Watch (the line with `node` needs Node 22 or later)");
    out.paste(&format!("{program} tail graph:forge mission:forge"));
    out.paste(&format!(
        "node -e 'new WebSocket(\"{sockets}/ws/graph\", [\"token\", process.env.CREWCAST_TOKEN]).onmessage = m => console.log(m.data)'"
    ));
    out.paste(&format!("websocat -H \"Authorization: Bearer $CREWCAST_TOKEN\" {sockets}/ws/mission"));
    out.paste("curl -sN -H \"Authorization: Bearer $CREWCAST_TOKEN\" \"$CREWCAST_URL/sse?channel=graph:forge\"");

    out.head("Publish: the console shows it as the agent `you`");
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

    /// Lines to paste stand apart from the others by their indent.
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
            seed: 42,
        }
    }

    fn pasted(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("    ")).collect()
    }

    #[test]
    fn it_names_every_way_in() {
        let text = banner(&addresses(Some(("127.0.0.1".to_owned(), 6379))), "aaa.bbb.ccc");
        for part in [
            "http://127.0.0.1:8000/ws/client#token=aaa.bbb.ccc",
            "http://127.0.0.1:9090/metrics",
            "--seed 42",
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
    fn without_redis_there_is_no_line_for_it() {
        let text = banner(&addresses(None), "aaa.bbb.ccc");
        assert!(!text.contains("redis-cli"), "{text}");
        assert!(text.contains("CREWCAST_REDIS_URL"), "{text}");
    }

    #[test]
    fn every_line_to_paste_is_sound_shell() {
        let mut published = 0;
        for line in pasted(&banner(&addresses(Some(("127.0.0.1".to_owned(), 6379))), "aaa.bbb.ccc")) {
            // `set --` makes the shell read the words without calling the program.
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
