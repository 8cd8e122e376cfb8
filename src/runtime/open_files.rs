//! How many files this process may have open: each connection is one, whatever its listener.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{OPEN_FILES_MAX, OPEN_FILES_NEEDED};

/// Raises the soft limit to the hard one, as far as is of use. The soft one is 1,024 nearly
/// everywhere, for the sake of programs that use `select(2)`. Warns if what it comes to is too low.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(OPEN_FILES_MAX, |hard| hard.min(OPEN_FILES_MAX));
    if limit.current.is_some_and(|soft| soft < wanted) {
        let current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, ..limit }) {
            log::warn!("cannot raise the limit of open files: {error}");
        }
    }
    if let Some(files) = getrlimit(Resource::Nofile).current
        && files < OPEN_FILES_NEEDED
    {
        log::warn!(
            "only {files} files may be open, and with them connections; beyond, nobody can publish \
             or watch: allow {OPEN_FILES_NEEDED} (LimitNOFILE= of the service, ulimit -n, \
             docker run --ulimit nofile=)"
        );
    }
}
