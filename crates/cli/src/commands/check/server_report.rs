//! What `check` requires of a Redis server.

use std::collections::HashMap;

use crewcast_gateway::config::Config;

use super::Finding;
use crate::backend;

/// The oldest version. RESP3 came with 6.0, GETDEL with 6.2.
const OLDEST: (u32, u32) = (6, 2);

/// A script that needs the same rights as the scripts that publish.
const SCRIPT: &str = "return redis.call('TIME')";

/// The output of `INFO` of one server, and whether scripts may run.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerReport {
    /// The server's name, if there are several servers.
    name: Option<String>,
    /// Whether the server was reached as part of a Cluster.
    in_cluster: bool,
    info: HashMap<String, String>,
    /// The error of a script, if scripts may not run.
    script_error: Option<String>,
}

impl ServerReport {
    /// Queries every server behind `broker.url` that holds keys.
    ///
    /// # Errors
    /// A text that says why a server cannot be queried. It never contains credentials.
    pub(super) async fn fetch(config: &Config) -> Result<Vec<Self>, String> {
        let redis = backend::servers(config).map_err(|error| error.to_string())?;
        let topology = redis.discover().await.map_err(|error| error.to_string())?;
        let mut servers = Vec::with_capacity(topology.nodes().len());
        for node in topology.nodes() {
            let info: Result<String, _> = node.server.query(&redis::cmd("INFO")).await;
            if let Some(error) = info.as_ref().err().filter(|error| error.is_io_error() || error.code().is_none()) {
                return Err(format!("{}: {error}", node.server.name()));
            }
            // Without the right to INFO, the other tests still work.
            let info = info.map(|text| parse_info(&text)).unwrap_or_default();
            let script: Result<redis::Value, _> = node.server.query(redis::cmd("EVAL").arg(SCRIPT).arg(0)).await;
            let name = (topology.nodes().len() > 1).then(|| node.server.name().to_owned());
            let in_cluster = redis.is_cluster();
            servers.push(Self { name, info, script_error: script.err().map(|error| error.to_string()), in_cluster });
        }
        if !topology.is_whole() {
            return Err("the Cluster has slots without a server: see CLUSTER INFO".to_owned());
        }
        Ok(servers)
    }

    /// The findings about this server.
    pub(super) fn findings(&self) -> Vec<Finding> {
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
        findings.extend(self.script_error.as_ref().map(|error| {
            Err(format!(
                "scripts are not allowed: {error}\nLogged events need EVAL and EVALSHA, and TIME within them: grant \
                 these commands to the user of broker.url"
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
            return Err(
                "the server does not report its version: grant the user of broker.url the command INFO".to_owned()
            );
        };
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST {
            return Err(format!("Redis {version} is too old: upgrade to {major}.{minor} or later (RESP3, GETDEL)"));
        }
        Ok(format!("Redis {version} answers"))
    }

    fn eviction(&self) -> Finding {
        let Some(policy) = self.get("maxmemory_policy") else {
            return Err(
                "the server does not report its maxmemory-policy: check that it is noeviction, and grant the user of \
                 broker.url the command INFO"
                    .to_owned(),
            );
        };
        if policy == "noeviction" {
            return Ok("maxmemory-policy is noeviction: logs are never evicted".to_owned());
        }
        let when = match self.get("maxmemory") {
            Some("0") => "as soon as maxmemory is set",
            _ => "when memory runs short",
        };
        Err(format!(
            "maxmemory-policy is {policy}: {when}, Redis evicts logs and their heads, and events are lost\n\
             Run CONFIG SET maxmemory-policy noeviction, and set the same in redis.conf"
        ))
    }

    fn replica(&self) -> Option<Finding> {
        (self.get("role") == Some("slave"))
            .then(|| Err("the server is a read-only replica: set broker.url to its master".to_owned()))
    }

    fn cluster(&self) -> Option<Finding> {
        (self.get("cluster_enabled") == Some("1") && !self.in_cluster).then(|| {
            Err("the server belongs to a Cluster: set broker.url to redis+cluster://host:port,host:port".to_owned())
        })
    }
}

/// Parses `key:value` lines under `# Section` headings.
fn parse_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(info: &str) -> Vec<String> {
        let server = ServerReport { info: parse_info(info), ..ServerReport::default() };
        server.findings().into_iter().filter_map(Result::err).collect()
    }

    #[test]
    fn a_good_server_has_no_faults() {
        let good = "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nmaxmemory:1000\r\n\
                    maxmemory_policy:noeviction\r\nrole:master\r\n";
        assert_eq!(wrong(good), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named_with_its_fix() {
        for (info, word) in [
            ("redis_version:6.0.16\nmaxmemory_policy:noeviction", "6.2 or later"),
            ("redis_version:nonsense\nmaxmemory_policy:noeviction", "6.2 or later"),
            ("maxmemory_policy:noeviction", "INFO"),
            ("redis_version:7.0.0", "check that it is noeviction"),
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
        let server = ServerReport { script_error: Some("NOPERM".to_owned()), ..ServerReport::default() };
        assert!(server.findings().iter().any(|finding| matches!(finding, Err(text) if text.contains("EVALSHA"))));
    }
}
