//! Request bodies: bounded in size and time, and JSON whose faults are told by line.

use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use bytes::Bytes;
use serde::Deserialize;

use super::problem::{Problem, ProblemType};

/// Most bytes of a request's body.
pub const MAX_BODY: usize = 16 << 20;
/// How long a body may take to arrive, so that a slow sender does not hold its memory for ever.
pub const BODY_TIME: Duration = Duration::from_secs(60);

/// Reads a whole body.
///
/// # Errors
/// 413 over [`MAX_BODY`], 408 after [`BODY_TIME`], 400 when the connection broke.
pub async fn read(body: Body) -> Result<Bytes, Problem> {
    // A length that is announced is refused before it is sent.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(ProblemType::Malformed, "the body did not arrive whole")),
        Err(_) => Err(Problem::new(
            ProblemType::Timeout,
            format!("the body did not arrive within {} seconds", BODY_TIME.as_secs()),
        )),
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemType::TooLarge, format!("a request's body has at most {MAX_BODY} bytes: send it in parts"))
}

fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The body as text.
///
/// # Errors
/// 400 naming the line that is not UTF-8.
pub fn text(body: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(body).map_err(|error| {
        let line = body[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        at_line(Problem::new(ProblemType::Malformed, format!("line {line} is not UTF-8")), line)
    })
}

/// Parses one JSON document that is the whole body.
///
/// # Errors
/// 400 naming line, column and field.
pub fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| malformed(&error, error.line()))
}

/// 400 for a fault in line `line` of a body; the column is the error's.
pub fn malformed(error: &serde_json::Error, line: usize) -> Problem {
    let line = line.max(1);
    let text = error.to_string();
    // serde_json counts lines from the beginning of what it was given, which may be one line of many.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let detail = format!("line {line}, column {}: {what}", error.column());
    at_line(Problem::new(ProblemType::Malformed, detail), line)
}

/// Adds the extension member `line`, which counts from 1.
pub fn at_line(problem: Problem, line: usize) -> Problem {
    problem.with("line", line)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_over_the_bound_is_refused_announced_or_not() {
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
    fn faults_name_their_line() {
        let body = Bytes::from_static(b"{}\n{\"a\":\"\xff\"}");
        assert_eq!(text(&body).unwrap_err().detail(), "line 2 is not UTF-8");
        let problem = json::<Vec<u32>>("[1,\n2,\n x]").unwrap_err();
        assert_eq!(problem.detail(), "line 3, column 2: expected value");
    }
}
