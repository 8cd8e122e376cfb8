//! Reading the configuration's file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::read::one_line;

/// The text of a file that was named.
pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

/// The text of the first file of these that is there. One that is there, or may be, and cannot be read
/// is an error: the server must not run without what it says.
pub(super) fn first_file(paths: &[&str]) -> Result<Option<(String, PathBuf)>, ConfigError> {
    for path in paths.iter().map(PathBuf::from) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((text, path))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::Unreadable {
        path: path.to_path_buf(),
        problem: one_line(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_default_file_that_is_not_there_is_passed_over() {
        let folder = std::env::temp_dir().join(format!("rtmpeer-{}-config", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (none, good, below) = (path("none"), path("good"), path("good/below"));
        std::fs::write(&good, "cores = 1").unwrap();
        assert_eq!(first_file(&[&none, &none]), Ok(None));
        let found = first_file(&[&none, &good]).unwrap();
        assert_eq!(found, Some(("cores = 1".into(), good.clone().into())));
        // Whether it is there cannot be told.
        let error = first_file(&[&below, &good]).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { path, .. } if path == Path::new(&below)));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
