// Package proc reads what Linux says about a process, without touching it:
// /proc/PID/maps, status, the executable, the mapped files, memory.
//
// A process is held by an open descriptor of its /proc/PID directory. The
// kernel ties that descriptor to the process and not to the number, so that
// once the process is gone every read says ErrGone, whoever has the number by
// then.
//
// Where the main thread has ended while others run on, the kernel answers for one of
// those instead (living.go).
//
// Everything read here was written by somebody else, who may be hostile:
//
//   - a maps line holds a path the process chose, so files are opened through
//     /proc/PID/exe and /proc/PID/map_files, which lead to the mapped inode
//     itself, whatever lies at that path, in whatever mount namespace, deleted
//     or replaced since. Where the caller may not use map_files (it takes
//     CAP_CHECKPOINT_RESTORE) the path is resolved inside the process's root
//     and must be the mapped inode of the mapped device;
//   - a file may be a device, whose open has effects: only regular files are
//     opened, looked at first through O_PATH;
//   - a file may lie on a file system that the process itself serves (FUSE) and
//     that answers never. Not even kill ends such a wait, so a deadline alone
//     would let pie report and then hang in its exit: files on file systems that
//     a user can serve are not opened, and names in them not looked up
//     (*UntrustedFS). Network file systems can be slow: each open and each read
//     has a deadline.
//
// The package never attaches, stops or writes.
package proc
