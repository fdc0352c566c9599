//! The way of a command to the server that must have it.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use redis::{Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};

use super::{
    node::{Server, is_doubtful},
    slots::{Route, route_of, slot_of},
    topology::{Redis, Topology},
};

/// How often a command is sent on to where it is said to belong.
const REDIRECTS: usize = 4;

/// Sends each command to the server that must have it.
#[derive(Clone)]
pub struct Connection {
    redis: Redis,
    pooled: bool,
}

impl Connection {
    pub(super) fn new(redis: Redis, pooled: bool) -> Self {
        Self { redis, pooled }
    }

    /// Runs commands that do not depend on each other: one pipeline to each server, all at the same time. Answers
    /// in the order asked, an error among them as [`Value::ServerError`].
    ///
    /// # Errors
    /// When a server does not answer.
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
                    // It did not happen there.
                    Some(_) if self.redis.is_cluster() => self.run(&commands[index]).await?,
                    _ => value,
                };
            }
        }
        Ok(answers)
    }

    /// The server that a key's commands go to.
    ///
    /// # Errors
    /// When nobody can be asked, or nobody holds it.
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
            self.redis.doubt();
            (ErrorKind::Server(ServerErrorKind::ClusterDown), "nobody holds the slot").into()
        })
    }

    async fn run(&self, cmd: &Cmd) -> RedisResult<Value> {
        let topology = self.redis.topology().await?;
        let route = route_of(cmd);
        if route == Route::Everywhere {
            let all = topology.nodes().iter().map(async |node| self.observe(node.server.run(cmd, self.pooled).await));
            // A server that is away is told when it is needed.
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

    /// The server that another one named. The slots are looked up again on the way.
    async fn redirected(&self, to: &str, asking: bool) -> Option<Arc<Server>> {
        if asking && let Some(server) = self.redis.known().and_then(|known| known.named(to).cloned()) {
            return Some(server);
        }
        let topology = self.redis.look_up().await.ok()?;
        topology.named(to).cloned()
    }

    /// A command to the server that is taking its slot over.
    async fn ask(&self, server: &Server, cmd: &Cmd) -> RedisResult<Value> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING").add_command(cmd.clone());
        let mut answers = server.run_all(&pipeline, self.pooled).await?;
        answers.pop().unwrap_or(Value::Nil).extract_error()
    }

    fn observe<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(is_doubtful) {
            self.redis.doubt();
        }
        answer
    }

    /// A pipeline whose commands are one channel's goes out whole; of any other each command in its turn, so that
    /// what is said later happens later.
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
                self.redis.doubt();
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

/// The error of an answer that says where the command belongs.
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
