//! A small disk of one broker's own, to be filled.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;

/// Whose log directory it is.
pub const BROKER: i32 = 3;
const SIZE: &str = "size=512m";
const CHUNK: usize = 1 << 20;

/// A tmpfs. Unmounted when it is dropped, which has to be after the broker has ended.
pub struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// Mounts it beneath a broker that has not begun yet; takes root.
    pub fn mount(cluster: &Cluster) -> Result<Self, String> {
        let mounted = cluster.directory.with_file_name("chaos-disk");
        fs::create_dir_all(&mounted).unwrap();
        // What a run that was killed has left.
        umount(&mounted);
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&mounted).output().unwrap();
        if !output.status.success() {
            return Err(format!("no small disk can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        let disk = Self { mounted };
        let (broker, data) = (cluster.directory.join(format!("kafka-{BROKER}")), disk.mounted.join("data"));
        fs::create_dir_all(&broker).unwrap();
        fs::create_dir_all(&data).unwrap();
        symlink(data, broker.join("data")).unwrap();
        Ok(disk)
    }

    /// Leaves no byte of it.
    pub fn fill(&self) -> Result<(), String> {
        let mut filler = File::create(self.filler()).map_err(|error| format!("the disk cannot be filled: {error}"))?;
        let chunk = vec![0; CHUNK];
        let mut size = CHUNK;
        while size > 0 {
            match filler.write(&chunk[..size]) {
                Ok(1..) => {}
                // The last bytes go one by one.
                Ok(0) | Err(_) => size /= 2,
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<(), String> {
        fs::remove_file(self.filler()).map_err(|error| format!("the disk cannot be freed: {error}"))
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount(&self.mounted);
        let _ = fs::remove_dir(&self.mounted);
    }
}

fn umount(mounted: &Path) {
    // Nothing is mounted there at first.
    let _ = Command::new("umount").arg(mounted).output();
}
