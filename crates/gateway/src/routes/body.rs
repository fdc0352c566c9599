//! Request bodies: bounded in size and time. Errors in JSON name the line.

use std::{ops::Deref, time::Duration};

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;

use super::problem::{Problem, ProblemType};
use crate::limits::{BodyPermit, ConnectionLimits};

/// Most bytes of a request body.
pub(crate) const MAX_BODY: usize = 16 << 20;
/// How long a body may take to arrive, so that a slow sender does not hold memory forever.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(60);

/// When to retry a request that was refused because too many bodies were in memory.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// A body, and its share of the memory for all bodies.
#[derive(Debug)]
pub(crate) struct BufferedBody {
    bytes: Bytes,
    _permit: Option<BodyPermit>,
}

impl Deref for BufferedBody {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Reads a whole body.
///
/// # Errors
/// 413 over [`MAX_BODY`], 408 after [`BODY_TIME`], 400 if the connection breaks, 429 if the bodies in memory already
/// take up `limits::transient::BODY_BYTES`.
pub(crate) async fn read(limits: &ConnectionLimits, body: Body) -> Result<BufferedBody, Problem> {
    // A declared length that is too large is refused before the body is sent.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    tokio::time::timeout(BODY_TIME, collect(limits, body)).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} seconds", BODY_TIME.as_secs());
        Err(Problem::new(ProblemType::Timeout, detail))
    })
}

/// Reserves memory for received bytes, not for the declared length: a client that sends nothing holds nothing.
async fn collect(limits: &ConnectionLimits, mut body: Body) -> Result<BufferedBody, Problem> {
    let mut bytes = BytesMut::new();
    let mut permit: Option<BodyPermit> = None;
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::new(ProblemType::Malformed, "the body did not arrive whole");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        let more = limits.body(data.len()).ok_or_else(busy)?;
        match &mut permit {
            Some(permit) => permit.add(more),
            None => permit = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(BufferedBody { bytes: bytes.freeze(), _permit: permit })
}

fn busy() -> Problem {
    Problem::new(ProblemType::TooMany, "this replica is taking in too much at once: try again").retry_after(BUSY_RETRY)
}

fn too_large() -> Problem {
    Problem::new(ProblemType::TooLarge, format!("a request's body has at most {MAX_BODY} bytes: send it in parts"))
}

/// The body as text.
///
/// # Errors
/// 400, with the line that is not UTF-8.
pub(crate) fn text(body: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let line = body[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        at_line(Problem::new(ProblemType::Malformed, format!("line {line} is not UTF-8")), line)
    })
}

/// Parses the whole body as one JSON document.
///
/// # Errors
/// 400, with line, column and field.
pub(crate) fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| malformed(&error, error.line()))
}

/// 400 for an error in line `line` of a body. The column is that of `error`.
pub(crate) fn malformed(error: &serde_json::Error, line: usize) -> Problem {
    let line = line.max(1);
    let text = error.to_string();
    // serde_json counts lines from the start of its input, which may be a single line of the body.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let detail = format!("line {line}, column {}: {what}", error.column());
    at_line(Problem::new(ProblemType::Malformed, detail), line)
}

/// Adds the extension member `line`, counted from 1.
pub(crate) fn at_line(problem: Problem, line: usize) -> Problem {
    problem.with("line", line)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::{config, limits::transient::BODY_BYTES};

    fn limits() -> ConnectionLimits {
        ConnectionLimits::new(&config::Limits::default(), 1024)
    }

    async fn read(body: Body) -> Result<BufferedBody, Problem> {
        super::read(&limits(), body).await
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded() {
        let limits = limits();
        let others = limits.body(BODY_BYTES - 10).unwrap();
        let held = super::read(&limits, Body::from(vec![b' '; 10])).await.unwrap();
        let refused = super::read(&limits, Body::from("x")).await.unwrap_err();
        assert_eq!(refused.kind(), ProblemType::TooMany);
        drop(held);
        drop(super::read(&limits, Body::from(vec![b' '; 10])).await.unwrap());
        let parts = stream::iter((0..2).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"12345678"))));
        assert_eq!(
            super::read(&limits, Body::from_stream(parts)).await.unwrap_err().kind(),
            ProblemType::TooMany,
            "counted on arrival"
        );
        drop(others);
        assert!(limits.body(BODY_BYTES).is_some(), "a refused body keeps no memory");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_or_without_a_declared_length() {
        let announced = Body::from(vec![b' '; MAX_BODY + 1]);
        assert_eq!(read(announced).await.unwrap_err().kind(), ProblemType::TooLarge);
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        let chunked = |n| {
            Body::from_stream(stream::iter((0..n).map({
                let chunk = chunk.clone();
                move |_| Ok::<_, std::io::Error>(chunk.clone())
            })))
        };
        assert_eq!(read(chunked(17)).await.unwrap_err().kind(), ProblemType::TooLarge);
        assert_eq!(read(chunked(16)).await.unwrap().len(), MAX_BODY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read(endless).await.unwrap_err().kind(), ProblemType::Timeout);
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]);
        assert_eq!(read(Body::from_stream(broken)).await.unwrap_err().kind(), ProblemType::Malformed);
    }

    #[test]
    fn errors_name_their_line() {
        let body = Bytes::from_static(b"{}\n{\"a\":\"\xff\"}");
        assert_eq!(text(&body).unwrap_err().detail(), "line 2 is not UTF-8");
        let problem = json::<Vec<u32>>("[1,\n2,\n x]").unwrap_err();
        assert_eq!(problem.detail(), "line 3, column 2: expected value");
    }
}
