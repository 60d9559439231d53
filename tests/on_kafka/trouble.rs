//! A disk that is not writable or full, for one child only.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What a disk has room for.
const ROOM_BYTES: u64 = 3 << 20;

/// The child may not write into this folder, not even as root.
pub fn not_writable(command: &mut Command, folder: &Path) {
    set_mode(folder, 0o500);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            // Without this capability root has to ask like anybody else. Where it cannot be given up, it was not held.
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_CAPBSET_DROP, 1, 0, 0, 0);
            Ok(())
        })
    };
}

/// Ends [`not_writable`].
pub fn writable_again(folder: &Path) {
    set_mode(folder, 0o700);
}

fn set_mode(folder: &Path, mode: u32) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).expect("the folder is ours");
}

/// The child has little room in this folder: a small file system of its own where it may mount one, else no file may be
/// larger than that.
pub fn full_disk(command: &mut Command, folder: &Path) {
    let folder = CString::new(folder.as_os_str().as_bytes()).expect("no zero byte in a path");
    let size = CString::new(format!("size={ROOM_BYTES}")).expect("no zero byte");
    // SAFETY: between fork and exec only system calls are made, with strings that were made before.
    unsafe {
        command.pre_exec(move || {
            if mount_small(&folder, &size) {
                return Ok(());
            }
            // A write beyond the limit is to fail, not to kill.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: ROOM_BYTES as _, rlim_max: ROOM_BYTES as _ };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    };
}

/// Mounts a file system in memory, which only this process sees and which ends with it. False where that is not allowed.
#[cfg(target_os = "linux")]
unsafe fn mount_small(folder: &CString, size: &CString) -> bool {
    let (root, tmpfs, none) = (c"/".as_ptr(), c"tmpfs".as_ptr(), std::ptr::null());
    // SAFETY: all strings end with a zero byte and live during the calls.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0
            && libc::mount(tmpfs, folder.as_ptr(), tmpfs, 0, size.as_ptr().cast()) == 0
    }
}

#[cfg(not(target_os = "linux"))]
unsafe fn mount_small(_: &CString, _: &CString) -> bool {
    false
}
