//! The log file, turned over by size; old ones go by number and age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const MEGABYTE: u64 = 1 << 20;

/// When files are turned over, and for how long old ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFileOptions {
    /// Largest file, in megabytes; 0 stands for 100.
    pub size_max_megabytes: u64,
    /// How many old files are kept; 0 stands for all.
    pub backups_max: usize,
    /// How many days old files are kept; 0 stands for ever.
    pub age_max_days: u64,
}

/// A file that is turned over.
pub struct LogFile {
    path: PathBuf,
    options: LogFileOptions,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens or makes the file.
    pub fn open(path: &Path, options: LogFileOptions) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            options,
            file,
            size,
        })
    }

    fn size_max(&self) -> u64 {
        match self.options.size_max_megabytes {
            0 => 100 * MEGABYTE,
            megabytes => megabytes.saturating_mul(MEGABYTE),
        }
    }

    /// Name and ending of the file.
    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        (text(self.path.file_stem()), text(self.path.extension()))
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let (stem, ending) = self.parts();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%6f");
        let ending = if ending.is_empty() {
            ending
        } else {
            format!(".{ending}")
        };
        let old = self.path.with_file_name(format!("{stem}-{now}{ending}"));
        fs::rename(&self.path, old)?;
        let fresh = Self::open(&self.path, self.options)?;
        (self.file, self.size) = (fresh.file, fresh.size);
        self.forget_old()
    }

    fn forget_old(&self) -> io::Result<()> {
        let (stem, _) = self.parts();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let prefix = format!("{stem}-");
        let mut old: Vec<(SystemTime, PathBuf)> = fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        old.sort();
        old.reverse();
        let age_max = Duration::from_secs(self.options.age_max_days * 24 * 3_600);
        for (index, (modified, path)) in old.iter().enumerate() {
            let too_many = self.options.backups_max > 0 && index >= self.options.backups_max;
            let too_old =
                self.options.age_max_days > 0 && modified.elapsed().is_ok_and(|age| age > age_max);
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.size_max() {
            self.turn_over()?;
        }
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_turned_over_and_few_are_kept() {
        let folder = std::env::temp_dir().join(format!("audit-{}", uuid::Uuid::new_v4()));
        let path = folder.join("audit.log");
        let options = LogFileOptions {
            size_max_megabytes: 1,
            backups_max: 2,
            age_max_days: 0,
        };
        let mut file = LogFile::open(&path, options).expect("made");
        let line = vec![b'x'; 700 << 10];
        for _ in 0..5 {
            file.write_all(&line).expect("written");
        }
        let count = fs::read_dir(&folder).expect("there").count();
        assert_eq!(count, 3, "the file and two old ones");
        assert_eq!(fs::metadata(&path).expect("there").len(), line.len() as u64);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
