//! Threads and tasks without which the server only seems to be there.

/// Ends the process if the thread or the task that holds it panics.
///
/// Without its planner, committer or publisher a server would accept connections, be ready, and answer nothing for ever.
/// A process that has died is started again by whatever watches over it, and what was acknowledged is on the disk.
pub(crate) struct Vital(pub(crate) &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(part = self.0, "a part of the server that it cannot do without has panicked: a bug");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_vital_part_panics_ends() {
        const CHILD: &str = "LOGWOOD_TEST_VITAL";
        if std::env::var_os(CHILD).is_some() {
            let part = std::thread::spawn(|| {
                let _vital = Vital("test");
                panic!("on purpose");
            });
            // Reached only if the process outlives it.
            let _ = part.join();
            return;
        }
        let test = std::env::current_exe().expect("a path");
        let name = "vital::tests::a_process_whose_vital_part_panics_ends";
        let child = std::process::Command::new(test).args(["--exact", name]).env(CHILD, "1").output();
        assert!(!child.expect("it runs").status.success());
    }
}
