//! Sends commands to the servers that hold their keys.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use redis::{Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};

use super::{
    node::{Server, needs_discovery},
    slots::{Route, route_of, slot_of},
    topology::{RedisClient, Topology},
};

/// Most redirections of one command.
const REDIRECTS: usize = 4;

/// Sends each command to the server that holds its key.
#[derive(Clone)]
pub struct Connection {
    redis: RedisClient,
    pooled: bool,
}

impl Connection {
    pub(super) fn new(redis: RedisClient, pooled: bool) -> Self {
        Self { redis, pooled }
    }

    /// Runs independent commands: one pipeline to each server, all at the same time. Answers in the order of the
    /// commands; an error among the answers is a [`Value::ServerError`].
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn each(&self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        let topology = self.redis.topology().await?;
        let mut parts: Vec<(Arc<Server>, Vec<usize>)> = Vec::new();
        for (index, cmd) in commands.iter().enumerate() {
            let server = self.server_for(&topology, route_of(cmd))?;
            match parts.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &server)) {
                Some((_, indexes)) => indexes.push(index),
                None => parts.push((server, vec![index])),
            }
        }
        let answered = try_join_all(parts.iter().map(async |(server, indexes)| {
            let mut pipeline = Pipeline::with_capacity(indexes.len());
            indexes.iter().for_each(|&index| {
                pipeline.add_command(commands[index].clone());
            });
            self.observe(server.run_all(&pipeline, self.pooled).await)
        }));
        let mut answers = vec![Value::Nil; commands.len()];
        for ((_, indexes), values) in parts.iter().zip(answered.await?) {
            for (&index, value) in indexes.iter().zip(values) {
                answers[index] = match redirection(&value) {
                    // A redirected command did not run.
                    Some(_) if self.redis.is_cluster() => self.run(&commands[index]).await?,
                    _ => value,
                };
            }
        }
        Ok(answers)
    }

    /// The server that holds a key.
    ///
    /// # Errors
    /// No server can be asked, or no server holds the slot.
    pub async fn holder(&self, key: &[u8]) -> RedisResult<Arc<Server>> {
        let topology = self.redis.topology().await?;
        self.server_for(&topology, Route::Slot(slot_of(key)))
    }

    fn server_for(&self, topology: &Topology, route: Route) -> RedisResult<Arc<Server>> {
        let server = match route {
            Route::Slot(slot) => topology.holder(slot),
            Route::Everywhere | Route::Anywhere => topology.nodes().first().map(|node| &node.server),
        };
        server.cloned().ok_or_else(|| {
            self.redis.mark_stale();
            (ErrorKind::Server(ServerErrorKind::ClusterDown), "no server holds the slot").into()
        })
    }

    async fn run(&self, cmd: &Cmd) -> RedisResult<Value> {
        let topology = self.redis.topology().await?;
        let route = route_of(cmd);
        if route == Route::Everywhere {
            let all = topology.nodes().iter().map(async |node| self.observe(node.server.run(cmd, self.pooled).await));
            // A server that is down now is reported when a command needs it.
            let answers = join_all(all).await;
            return answers.into_iter().reduce(|one, other| one.or(other)).unwrap_or(Ok(Value::Nil));
        }
        let mut server = self.server_for(&topology, route)?;
        let mut asking = false;
        for _ in 0..REDIRECTS {
            let answer = if asking { self.ask(&server, cmd).await } else { server.run(cmd, self.pooled).await };
            let error = match self.observe(answer) {
                Err(error) if self.redis.is_cluster() => error,
                answer => return answer,
            };
            let Some((to, _)) = error.redirect_node() else { return Err(error) };
            asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            server = self.redirected(to, asking).await.ok_or(error)?;
        }
        Err((ErrorKind::Server(ServerErrorKind::TryAgain), "sent from server to server").into())
    }

    /// The server that a redirection names. Discovers the slots again on the way.
    async fn redirected(&self, to: &str, asking: bool) -> Option<Arc<Server>> {
        if asking && let Some(server) = self.redis.known().and_then(|known| known.by_name(to).cloned()) {
            return Some(server);
        }
        let topology = self.redis.discover().await.ok()?;
        topology.by_name(to).cloned()
    }

    /// Sends a command to the server that is importing its slot.
    async fn ask(&self, server: &Server, cmd: &Cmd) -> RedisResult<Value> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING").add_command(cmd.clone());
        let mut answers = server.run_all(&pipeline, self.pooled).await?;
        answers.pop().unwrap_or(Value::Nil).extract_error()
    }

    fn observe<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(needs_discovery) {
            self.redis.mark_stale();
        }
        answer
    }

    /// A pipeline for one slot goes out whole. Any other runs command by command, which keeps the order.
    async fn run_all(&self, pipeline: &Pipeline, offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let topology = self.redis.topology().await?;
        let mut slots = pipeline.cmd_iter().filter_map(|cmd| match route_of(cmd) {
            Route::Slot(slot) => Some(slot),
            Route::Everywhere | Route::Anywhere => None,
        });
        let first = slots.next();
        if !self.redis.is_cluster() || slots.all(|slot| Some(slot) == first) {
            let server = self.server_for(&topology, first.map_or(Route::Anywhere, Route::Slot))?;
            let answers = self.observe(server.run_part(pipeline, offset, count, self.pooled).await)?;
            if answers.iter().any(|answer| redirection(answer).is_some()) {
                self.redis.mark_stale();
            }
            return Ok(answers);
        }
        let mut answers = Vec::with_capacity(count);
        for cmd in pipeline.cmd_iter() {
            answers.push(self.run(cmd).await?);
        }
        Ok(answers)
    }
}

/// Whether the answer is `MOVED` or `ASK`.
fn redirection(answer: &Value) -> Option<()> {
    let Value::ServerError(error) = answer else { return None };
    matches!(error.kind(), Some(ServerErrorKind::Moved | ServerErrorKind::Ask)).then_some(())
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.run(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.run_all(pipeline, offset, count))
    }

    fn get_db(&self) -> i64 {
        0
    }
}
