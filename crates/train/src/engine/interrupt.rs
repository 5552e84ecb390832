//! Ctrl-C and SIGTERM: the first asks the training loop to stop after its step, the second quits.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// Exit status of a run that was stopped by a signal.
pub const INTERRUPTED: i32 = 130;

/// Installs the handlers; the flag is set by the first signal. The second gives the terminal back and ends the process.
///
/// # Errors
/// When the system refuses a handler, or the thread that waits for the second signal.
pub fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let quitting = quit_on_the_second(&stop)?;
    for signal in TERM_SIGNALS {
        // In this order: the exit is taken only when an earlier signal has set the flag.
        flag::register_conditional_shutdown(*signal, INTERRUPTED, Arc::clone(&quitting))?;
        flag::register(*signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Ends the process on the second signal, from a thread: a handler must not touch the terminal. Gives the flag with which
/// a further signal ends it at once, whatever the terminal does.
#[cfg(unix)]
fn quit_on_the_second(_stop: &Arc<AtomicBool>) -> std::io::Result<Arc<AtomicBool>> {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    // A byte for each signal: two that come together still count as two.
    let (mut signals, handler) = UnixStream::pair()?;
    for signal in TERM_SIGNALS {
        signal_hook::low_level::pipe::register(*signal, handler.try_clone()?)?;
    }
    let quitting = Arc::new(AtomicBool::new(false));
    let at_once = Arc::clone(&quitting);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.read_exact(&mut [0; 2]).is_ok() {
            at_once.store(true, Ordering::Relaxed);
            let _terminal = crate::engine::dashboard::restore();
            signal_hook::low_level::exit(INTERRUPTED);
        }
    })?;
    Ok(quitting)
}

/// There is no dashboard that would keep the terminal: the second signal ends the process at once.
#[cfg(not(unix))]
fn quit_on_the_second(stop: &Arc<AtomicBool>) -> std::io::Result<Arc<AtomicBool>> {
    Ok(Arc::clone(stop))
}
