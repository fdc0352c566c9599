//! What `check` demands of a Redis server.

use std::collections::HashMap;

use crewcast_gateway::config::Config;

use super::Finding;
use crate::link;

/// RESP3 came with 6.0, GETDEL with 6.2.
const OLDEST: (u32, u32) = (6, 2);

/// As those that publish, it asks for the time.
const SCRIPT: &str = "return redis.call('TIME')";

/// What `INFO` says, and whether scripts may run.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Where there are several.
    name: Option<String>,
    /// It was reached as a part of a Cluster.
    is_of_a_cluster: bool,
    info: HashMap<String, String>,
    scripts: Option<String>,
}

impl Server {
    /// Asks every server behind `broker.url` that holds keys.
    ///
    /// # Errors
    /// Why they cannot be asked; never with credentials.
    pub async fn look(config: &Config) -> Result<Vec<Self>, String> {
        let redis = link::servers(config).map_err(|error| error.to_string())?;
        let topology = redis.discover().await.map_err(|error| error.to_string())?;
        let mut servers = Vec::with_capacity(topology.nodes().len());
        for node in topology.nodes() {
            let info: Result<String, _> = node.server.query(&redis::cmd("INFO")).await;
            if let Some(error) = info.as_ref().err().filter(|error| error.is_io_error() || error.code().is_none()) {
                return Err(format!("{}: {error}", node.server.name()));
            }
            // Without a right to INFO there is still something to find out.
            let info = info.map(|text| read_info(&text)).unwrap_or_default();
            let script: Result<redis::Value, _> = node.server.query(redis::cmd("EVAL").arg(SCRIPT).arg(0)).await;
            let name = (topology.nodes().len() > 1).then(|| node.server.name().to_owned());
            let is_of_a_cluster = redis.is_cluster();
            servers.push(Self { name, info, scripts: script.err().map(|error| error.to_string()), is_of_a_cluster });
        }
        if !topology.is_whole() {
            return Err("the Cluster has slots that no server holds: see CLUSTER INFO".to_owned());
        }
        Ok(servers)
    }

    /// What is well and what is wrong with it.
    pub fn findings(&self) -> Vec<Finding> {
        let named = |text: String| match &self.name {
            Some(name) => format!("{name}: {text}"),
            None => text,
        };
        self.facts().into_iter().map(|finding| finding.map(named).map_err(named)).collect()
    }

    fn facts(&self) -> Vec<Finding> {
        let mut findings = vec![self.version(), self.eviction()];
        findings.extend(self.replica());
        findings.extend(self.cluster());
        findings.extend(self.scripts.as_ref().map(|error| {
            Err(format!(
                "scripts may not run: {error}\nLogged events need EVAL, EVALSHA, and TIME within them: give \
                 them to the user of broker.url"
            ))
        }));
        findings
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.info.get(key).map(String::as_str)
    }

    fn version(&self) -> Finding {
        let (major, minor) = OLDEST;
        let Some(version) = self.get("redis_version") else {
            return Err("the server does not say its version: give the user of broker.url the command INFO".to_owned());
        };
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST {
            return Err(format!("Redis {version} is too old: {major}.{minor} or later is needed (RESP3, GETDEL)"));
        }
        Ok(format!("Redis {version} answers"))
    }

    fn eviction(&self) -> Finding {
        let Some(policy) = self.get("maxmemory_policy") else {
            return Err(
                "the server does not say its maxmemory-policy: see yourself that it is noeviction, and give the user of \
                 broker.url the command INFO"
                    .to_owned(),
            );
        };
        if policy == "noeviction" {
            return Ok("maxmemory-policy is noeviction: no log is evicted".to_owned());
        }
        let now = match self.get("maxmemory") {
            Some("0") => "as soon as maxmemory is set",
            _ => "when memory runs short",
        };
        Err(format!(
            "maxmemory-policy is {policy}: {now}, Redis throws away logs and their heads, and events with them\n\
             CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
        ))
    }

    fn replica(&self) -> Option<Finding> {
        (self.get("role") == Some("slave"))
            .then(|| Err("the server is a read-only replica: set broker.url to its master".to_owned()))
    }

    fn cluster(&self) -> Option<Finding> {
        (self.get("cluster_enabled") == Some("1") && !self.is_of_a_cluster).then(|| {
            Err("the server is one of a Cluster: write broker.url as redis+cluster://host:port,host:port".to_owned())
        })
    }
}

/// `key:value` lines under `# Section` headings.
fn read_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(info: &str) -> Vec<String> {
        let server = Server { info: read_info(info), ..Server::default() };
        server.findings().into_iter().filter_map(Result::err).collect()
    }

    #[test]
    fn a_good_server() {
        let good = "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";
        assert_eq!(wrong(good), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named_with_what_mends_it() {
        for (info, word) in [
            ("redis_version:6.0.16\nmaxmemory_policy:noeviction", "6.2 or later"),
            ("redis_version:nonsense\nmaxmemory_policy:noeviction", "6.2 or later"),
            ("maxmemory_policy:noeviction", "INFO"),
            ("redis_version:7.0.0", "see yourself that it is noeviction"),
            (
                "redis_version:7.0.0\nmaxmemory:100\nmaxmemory_policy:allkeys-lru",
                "CONFIG SET maxmemory-policy noeviction",
            ),
            ("redis_version:7.0.0\nmaxmemory:0\nmaxmemory_policy:volatile-ttl", "as soon as maxmemory is set"),
            ("redis_version:7.0.0\nmaxmemory_policy:noeviction\nrole:slave", "master"),
            ("redis_version:7.0.0\nmaxmemory_policy:noeviction\ncluster_enabled:1", "redis+cluster://"),
        ] {
            let wrong = wrong(info);
            assert!(wrong.len() == 1 && wrong[0].contains(word), "{info}: {wrong:?}");
        }
        let server = Server { scripts: Some("NOPERM".to_owned()), ..Server::default() };
        assert!(server.findings().iter().any(|finding| matches!(finding, Err(text) if text.contains("EVALSHA"))));
    }
}
