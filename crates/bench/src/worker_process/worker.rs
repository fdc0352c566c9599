use std::{
    io::stdin,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::messages::{Job, Notice, Order};
use crate::{
    load::{Generator, Target, Watched},
    protocol,
};

/// How long one turn of the loop waits: long enough to cost nothing, short enough that a window begins in time.
const TURN: Duration = Duration::from_millis(2);

/// Runs a worker: opens the sockets of its job, and listens until its input ends.
///
/// # Errors
/// If the job is invalid, or sockets do not open.
pub fn listen() -> Result<()> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line).context("the first line of the input is not a job")?;
    let protocol = protocol::named(&job.protocol, job.load.channels, &job.secret)?;
    let sockets = job.load.sockets();
    let mut generator = Generator::new(job.load, Target { sockets: job.sockets, publish: None }, protocol)?;
    generator.open(0..sockets)?;
    report(&Notice::Open)?;
    follow(&mut generator, &orders())
}

fn follow(generator: &mut Generator, orders: &Receiver<Order>) -> Result<()> {
    let (unwatched, mut reported_awake, mut began) = (Watched::default(), false, None);
    let mut cpu = Default::default();
    loop {
        generator.turn(TURN)?;
        if !reported_awake && generator.is_awake() {
            reported_awake = true;
            report(&Notice::Awake)?;
        }
        match orders.try_recv() {
            Ok(Order::Begin) => began = Some(generator.begin_window(&unwatched)),
            Ok(Order::End) => {
                let end = generator.end_window(&unwatched);
                cpu = began.take().map_or(cpu, |began| end.own_since(&began));
            }
            Ok(Order::Finish(ends)) => {
                generator.ends = ends;
                generator.drain()?;
                report(&Notice::Share(Box::new(generator.share(cpu))))?;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// The orders as they arrive. The channel ends with the input.
fn orders() -> Receiver<Order> {
    let (sender, orders) = channel();
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

fn report(notice: &Notice) -> Result<()> {
    println!("{}", serde_json::to_string(notice)?);
    Ok(())
}
