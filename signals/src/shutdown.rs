//! Decides which signal begins a shutdown and which forces it.
//!
//! Pure. A supervised node gets many signals twice: a terminal's Ctrl-C and a service manager
//! signal the supervisor and the node, and the supervisor passes its own on. So signals are counted
//! by sender, and two of one sender are needed to force a shutdown.

use crate::table::Effect;

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The process received it itself.
    System,
    /// The process that supervises this one passed it on.
    Supervisor,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first signal: shut down in order.
    Stop,
    /// End without waiting for other nodes.
    Force,
    /// Nothing new.
    Nothing,
}

/// The signals that counted so far.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stopping: bool,
    from_system: u32,
    from_supervisor: u32,
}

impl Shutdown {
    /// Notes that a shutdown began for another reason: the next signal that can force it does.
    pub fn began(&mut self) {
        self.stopping = true;
        (self.from_system, self.from_supervisor) = (1, 1);
    }

    /// Returns what a signal of this effect asks for now.
    pub fn receive(&mut self, sender: Sender, effect: Effect) -> Step {
        match effect {
            Effect::StopOrForce => {
                let count = match sender {
                    Sender::System => &mut self.from_system,
                    Sender::Supervisor => &mut self.from_supervisor,
                };
                *count = count.saturating_add(1);
                if *count > 1 {
                    return Step::Force;
                }
            }
            Effect::Stop | Effect::StopUnlessFileLimit => {}
            Effect::Ignore | Effect::Pause | Effect::Die => return Step::Nothing,
        }
        if std::mem::replace(&mut self.stopping, true) {
            Step::Nothing
        } else {
            Step::Stop
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Effect::{Stop, StopOrForce};
    use Sender::{Supervisor, System};

    #[track_caller]
    fn check(signals: &[(Sender, Effect)], expected: &[Step]) {
        let mut shutdown = Shutdown::default();
        let steps: Vec<_> = signals
            .iter()
            .map(|(sender, effect)| shutdown.receive(*sender, *effect))
            .collect();
        assert_eq!(steps, expected, "{signals:?}");
    }

    #[test]
    fn the_second_signal_of_one_sender_forces() {
        let forced = [Step::Stop, Step::Force, Step::Force];
        check(&[(System, StopOrForce); 3], &forced);
        check(&[(Supervisor, StopOrForce); 3], &forced);
    }

    #[test]
    fn one_signal_by_two_ways_does_not_force() {
        let both = [(System, StopOrForce), (Supervisor, StopOrForce)];
        check(&both, &[Step::Stop, Step::Nothing]);
        let twice = [both[0], both[1], both[1]];
        check(&twice, &[Step::Stop, Step::Nothing, Step::Force]);
    }

    #[test]
    fn hangups_never_force() {
        let signals = [(System, Stop), (System, Stop), (System, StopOrForce)];
        check(&signals, &[Step::Stop, Step::Nothing, Step::Nothing]);
        let after = [(System, StopOrForce), (System, Stop)];
        check(&after, &[Step::Stop, Step::Nothing]);
    }

    #[test]
    fn any_shutdown_can_be_forced_by_one_signal() {
        let mut shutdown = Shutdown::default();
        shutdown.began();
        assert_eq!(shutdown.receive(System, Stop), Step::Nothing);
        assert_eq!(shutdown.receive(System, StopOrForce), Step::Force);
    }
}
