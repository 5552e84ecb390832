//! Ctrl-C and SIGTERM: the first asks the training loop to stop after its step, the second quits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit status of a run that was stopped by a signal.
pub const INTERRUPTED: i32 = 130;

/// Installs the handlers; the flag is set by the first signal.
///
/// # Errors
/// When the system refuses a handler.
pub fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in TERM_SIGNALS {
        // In this order: the exit is taken only when an earlier signal has set the flag.
        flag::register_conditional_shutdown(*signal, INTERRUPTED, Arc::clone(&stop))?;
        flag::register(*signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
