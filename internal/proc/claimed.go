package proc

import "golang.org/x/sys/unix"

// Claimed tells whether another instance of PIE is at work on the process: whether it
// holds the flock(2) on the process's directory that package tracee takes. It asks by
// taking a shared lock for a moment, in which that instance would be told to come again;
// so ask only where what was read looks like a change that is under way. False where
// nobody can tell.
func (p *Process) Claimed() bool {
	dir, err := unix.Openat(int(p.dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir) // and the lock with it
	return unix.Flock(dir, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}
