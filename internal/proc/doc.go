// Package proc reads what Linux says about a process, without touching it:
// /proc/PID/maps, status, the executable, the mapped files, memory.
//
// A process is held by an open descriptor of its /proc/PID directory. The
// kernel ties that descriptor to the process and not to the number, so that
// once the process is gone every read says ErrGone, whoever has the number by
// then.
//
// Everything read here was written by somebody else, who may be hostile:
//
//   - a maps line holds a path the process chose, so files are opened through
//     /proc/PID/exe and /proc/PID/map_files, which lead to the mapped inode
//     itself, whatever lies at that path, in whatever mount namespace, deleted
//     or replaced since. Where the caller may not use map_files (it takes
//     CAP_CHECKPOINT_RESTORE) the path is resolved below /proc/PID/root with
//     RESOLVE_IN_ROOT and must be the mapped inode of the mapped device;
//   - a file may be a device, whose open has effects: only regular files are
//     opened, looked at first through O_PATH;
//   - a file may live on a FUSE mount served by the process itself and answer
//     never: each open and each read has a deadline.
//
// The package never attaches, stops or writes.
package proc
