//! The terminal under Burn's dashboard, which takes it over and does not always give it back.

use std::io::StdoutLock;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Burn's dashboard has the terminal.
static HAS_TERMINAL: AtomicBool = AtomicBool::new(false);

/// The terminal while Burn's dashboard has it: however that ends, the terminal is as it was. Drop it after the dashboard.
pub(crate) struct Dashboard;

impl Dashboard {
    /// Call it just before the dashboard begins.
    ///
    /// # Errors
    /// When the terminal refuses to let Ctrl-C be a signal.
    pub(crate) fn begin() -> (Self, std::io::Result<()>) {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            // Burn's own hook comes first and forgets the cursor.
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                drop(restore());
                report(panic);
            }));
        });
        HAS_TERMINAL.store(true, Ordering::Relaxed);
        (Self, keep_signals())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(restore());
        HAS_TERMINAL.store(false, Ordering::Relaxed);
    }
}

/// Gives the terminal back where Burn's dashboard has it; the dashboard draws nothing more while the lock is held.
pub(crate) fn restore() -> Option<StdoutLock<'static>> {
    if !HAS_TERMINAL.load(Ordering::Relaxed) {
        return None;
    }
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no dashboard"))]
    let mut output = std::io::stdout().lock();
    #[cfg(unix)]
    {
        use crossterm::cursor::Show;
        use crossterm::event::DisableMouseCapture;
        use crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode, is_raw_mode_enabled};
        // A terminal that is gone needs nothing.
        if is_raw_mode_enabled().unwrap_or(false) {
            drop(disable_raw_mode());
            drop(crossterm::execute!(output, DisableMouseCapture, LeaveAlternateScreen));
        }
        drop(crossterm::execute!(output, Show));
    }
    Some(output)
}

/// Lets Ctrl-C and Ctrl-\\ be signals under Burn's dashboard. It puts the terminal into raw mode, where they are keys like
/// others, and passes over these keys. What is set here first stays, as the dashboard's own call then has nothing to do;
/// its end restores the terminal as it was before.
fn keep_signals() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
        crossterm::terminal::enable_raw_mode()?;
        let input = std::io::stdin();
        let mut modes = tcgetattr(&input)?;
        modes.local_modes.insert(LocalModes::ISIG);
        // A stopped dashboard would leave a terminal that cannot be used.
        modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(&input, OptionalActions::Now, &modes)?;
    }
    Ok(())
}
