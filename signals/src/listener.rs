//! Receives signals.

use std::io;

use futures::future::select_all;
use rustix::process::{Resource, getrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, warn};

use crate::disposition::Dispositions;
use crate::table::{Effect, SIGNALS, row};

/// The signals that end a program in order, from the moment this exists.
#[derive(Debug)]
pub struct Signals(Vec<(i32, Signal)>);

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Its name in the table.
    pub name: &'static str,
    /// What it asks for.
    pub effect: Effect,
}

impl Received {
    /// Looks a number up; `None` if no program handles such a signal.
    pub fn of(number: i32) -> Option<Self> {
        let row = row(number)?;
        Some(Self {
            number,
            name: row.name,
            effect: row.effect,
        })
    }
}

impl Signals {
    /// Begins to listen. From then on these signals do not end the process.
    ///
    /// # Errors
    ///
    /// If the system refuses a handler.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let before = Dispositions::of_this_process();
        let mut listeners = Vec::new();
        for row in SIGNALS {
            for number in row.numbers.clone() {
                let wanted = match row.effect {
                    Effect::StopOrForce => true,
                    Effect::Stop | Effect::StopUnlessFileLimit => before.is_default(number),
                    Effect::Ignore | Effect::Pause | Effect::Die => false,
                };
                if wanted {
                    listeners.extend(listener(number)?);
                }
            }
        }
        Ok(Self(listeners))
    }

    /// Waits for a signal that ends programs. Cancel safe.
    pub async fn next(&mut self) -> Received {
        loop {
            let number = self.any().await;
            let received =
                Received::of(number).expect("only signals of the table are listened for");
            if received.effect == Effect::StopUnlessFileLimit && has_file_limit() {
                warn!("the file size limit is reached: writes fail");
                continue;
            }
            return received;
        }
    }

    async fn any(&mut self) -> i32 {
        let waiting = self.0.iter_mut().map(|(number, listener)| {
            let number = *number;
            Box::pin(async move {
                listener.recv().await;
                number
            })
        });
        select_all(waiting).await.0
    }
}

/// Listens for one signal. The C library may keep some real-time signals to itself.
fn listener(number: i32) -> io::Result<Option<(i32, Signal)>> {
    match signal(SignalKind::from_raw(number)) {
        Ok(listener) => Ok(Some((number, listener))),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            debug!(number, %error, "cannot handle the signal");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn has_file_limit() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}
