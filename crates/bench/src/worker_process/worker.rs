use std::{
    io::stdin,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Job, Notice, Order};
use crate::{
    load::{Generator, Target, Watched},
    protocol,
};

/// Long enough to cost nothing, short enough that a window begins in time.
const TURN: Duration = Duration::from_millis(2);

/// What a part does: opens its sockets, and listens until its input ends.
///
/// # Errors
/// When the job makes no sense, or sockets do not open.
pub fn listen() -> Result<()> {
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line).context("no job")?;
    let protocol = protocol::named(&job.protocol, job.load.channels, &job.secret)?;
    let sockets = job.load.sockets();
    let mut generator = Generator::new(job.load, Target { sockets: job.sockets, publish: None }, protocol)?;
    generator.open(0..sockets)?;
    tell(&Notice::Open)?;
    follow(&mut generator, &orders())
}

fn follow(generator: &mut Generator, orders: &Receiver<Order>) -> Result<()> {
    let (nobody, mut told_awake, mut began) = (Watched::default(), false, None);
    let mut cpu = Default::default();
    loop {
        generator.turn(TURN)?;
        if !told_awake && generator.is_awake() {
            told_awake = true;
            tell(&Notice::Awake)?;
        }
        match orders.try_recv() {
            Ok(Order::Begin) => began = Some(generator.begin_window(&nobody)),
            Ok(Order::End) => {
                let end = generator.end_window(&nobody);
                cpu = began.take().map_or(cpu, |began| end.own_since(&began));
            }
            Ok(Order::Finish(ends)) => {
                generator.ends = ends;
                generator.drain()?;
                tell(&Notice::Share(Box::new(generator.share(cpu))))?;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// Orders, as they come in; the channel ends with the input.
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

fn tell(notice: &Notice) -> Result<()> {
    println!("{}", serde_json::to_string(notice)?);
    Ok(())
}
