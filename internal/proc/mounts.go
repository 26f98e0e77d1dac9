package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// UntrustedFS says that a file lies where a program may be its file system. A
// request to such a file system, once it is sent, waits for the answer and
// nothing else: not for a signal, not for the death of who asked. A hostile
// server could so hold pie for ever.
type UntrustedFS struct {
	Type string // as in mountinfo: "fuse.sshfs"; "" when the mount is not known
}

func (e *UntrustedFS) Error() string {
	if e.Type == "" {
		return "it lies on a mount that neither the process nor pie has, so who answers for it is not known"
	}
	return fmt.Sprintf("it lies on a file system of type %s, which a program serves; reading it could hang", e.Type)
}

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id           uint64
	major, minor uint32
	fstype       string
}

var errMountinfo = errors.New("not a line of mountinfo")

// parseMounts reads "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE
// SOURCE OPTIONS". Blanks in paths are written as \040.
func parseMounts(text []byte) ([]mount, error) {
	var out []mount
	for line := range bytes.Lines(text) {
		before, after, ok1 := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		fields := strings.Fields(before)
		fstype, _, ok2 := strings.Cut(after, " ")
		if !ok1 || !ok2 || len(fields) < 6 || fstype == "" {
			return nil, fmt.Errorf("%.120q: %w", line, errMountinfo)
		}
		major, minor, _ := strings.Cut(fields[2], ":")
		id, err1 := strconv.ParseUint(fields[0], 10, 64)
		ma, err2 := strconv.ParseUint(major, 10, 32)
		mi, err3 := strconv.ParseUint(minor, 10, 32)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("%.120q: %w", line, errMountinfo)
		}
		out = append(out, mount{id, uint32(ma), uint32(mi), fstype})
	}
	return out, nil
}

// checkFS tells whether the file behind an open descriptor (O_PATH will do) may
// be read: the type of its file system, or *UntrustedFS. The descriptor holds the mount and the file system, so that their
// numbers cannot be given away before mountinfo is read.
//
// Only FUSE and overlayfs can be mounted by an ordinary user, in a user
// namespace of his own, with something of his below; all else answers from
// the kernel or was mounted by the administrator. An overlay counts as the
// administrator's when the process's mount namespace belongs to pie's user
// namespace, or the mount is pie's own.
func (p *Process) checkFS(fd int) (fstype string, err error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return "", err
	}
	if root := ownRoot(); root.fstype != "" && root.major == st.Dev_major && root.minor == st.Dev_minor {
		return root.fstype, nil
	}
	theirs, err := p.readHeld("mountinfo", maxMapsText)
	if err != nil {
		return "", err
	}
	m, ok, err := findMount(theirs, &st)
	if err == nil && ok && m.fstype == "overlay" && !p.sharesUserNamespace() {
		return "", &UntrustedFS{m.fstype}
	}
	if err == nil && !ok {
		var ours []byte
		if ours, err = os.ReadFile("/proc/self/mountinfo"); err == nil {
			m, ok, err = findMount(ours, &st)
		}
	}
	switch {
	case err != nil:
		return "", err
	case ok && isFUSE(m.fstype):
		return "", &UntrustedFS{m.fstype}
	case ok:
		return m.fstype, nil
	case isMemory(&st):
		return "tmpfs", nil
	}
	return "", &UntrustedFS{}
}

// ownRoot is the file system that pie's own root lies on, where it needs no further
// question: most files lie on it, and mountinfo is long. It stays mounted for as long as
// pie lives, so its numbers are never another's.
var ownRoot = sync.OnceValue(func() mount {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return mount{}
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	}
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return mount{}
	}
	m, ok, err := findMount(text, &st)
	if err != nil || !ok || m.id != st.Mnt_id || m.major != st.Dev_major || m.minor != st.Dev_minor || !isLocal(m.fstype) {
		return mount{}
	}
	return m
})

// isLocal tells whether reading a file waits for nothing but a disk of this
// machine; such reads need no deadline, and are cheaper without.
func isLocal(fstype string) bool {
	switch fstype {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "rootfs", "squashfs", "erofs":
		return true
	}
	return false
}

func isFUSE(fstype string) bool {
	return fstype == "fuse" || fstype == "fuseblk" || strings.HasPrefix(fstype, "fuse.")
}

// findMount finds the mount of a file or, where its mount is gone, another of
// the same file system.
func findMount(mountinfo []byte, st *unix.Statx_t) (mount, bool, error) {
	mounts, err := parseMounts(mountinfo)
	if err != nil {
		return mount{}, false, err
	}
	for _, m := range mounts {
		if st.Mask&unix.STATX_MNT_ID != 0 && m.id == st.Mnt_id {
			return m, true, nil
		}
	}
	for _, m := range mounts {
		if m.major == st.Dev_major && m.minor == st.Dev_minor {
			return m, true, nil
		}
	}
	return mount{}, false, nil
}

// isMemory tells whether a file lies in the kernel's own tmpfs, as memfd_create
// and shared anonymous memory do. That has no line in any mountinfo.
func isMemory(st *unix.Statx_t) bool {
	fd, err := unix.MemfdCreate("pie", unix.MFD_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var own unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO, &own)
	return err == nil && own.Dev_major == st.Dev_major && own.Dev_minor == st.Dev_minor
}

// sharesUserNamespace tells whether the process's mount namespace is owned by
// pie's user namespace: who made its mounts had pie's administrator's rights.
func (p *Process) sharesUserNamespace() bool {
	ns, err := p.openHeld("ns/mnt", unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer ns.Close()
	owner, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(owner)
	var theirs, ours unix.Stat_t
	if unix.Fstat(owner, &theirs) != nil || unix.Stat("/proc/self/ns/user", &ours) != nil {
		return false
	}
	return theirs.Dev == ours.Dev && theirs.Ino == ours.Ino
}
