package proc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FUSE as the kernel speaks it (linux/fuse.h), as much as one file needs.
const (
	fuseLookup, fuseGetattr, fuseOpen, fuseRead, fuseInit = 1, 3, 14, 15, 26

	fuseHeaderIn, fuseHeaderOut = 40, 16
	fuseFile                    = 2 // the node of the one file; the root is 1
	fuseSize                    = 8192
)

// fuse is a file system with one file, "lib.so", that stops answering.
type fuse struct {
	fd    int
	stall atomic.Bool
	asked atomic.Int32 // how often for what stat(2) tells
}

// mountFuse mounts the file system on a folder.
func mountFuse(t *testing.T, dir string) *fuse {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("/dev/fuse: %v (the tests run as root on a kernel with FUSE)", err)
	}
	options := "fd=" + itoa(fd) + ",rootmode=40000,user_id=0,group_id=0"
	if err := unix.Mount("pie-test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatalf("mounting FUSE: %v", err)
	}
	f := &fuse{fd: fd}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	go f.serve()
	return f
}

func itoa(n int) string {
	b := []byte{}
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func (f *fuse) serve() {
	b := make([]byte, 1<<17)
	for {
		n, err := unix.Read(f.fd, b)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < fuseHeaderIn {
			return // unmounted
		}
		f.answer(b[:n])
	}
}

func (f *fuse) answer(in []byte) {
	opcode, unique, node := le32(in[4:]), in[8:16], binary.LittleEndian.Uint64(in[16:])
	var out []byte
	errno := syscall.Errno(0)
	switch opcode {
	case fuseInit:
		out = make([]byte, 64)
		binary.LittleEndian.PutUint32(out, 7)
		binary.LittleEndian.PutUint32(out[4:], 31)
		binary.LittleEndian.PutUint32(out[20:], 1<<16) // max_write
	case fuseLookup:
		if f.stall.Load() {
			return
		}
		if string(in[fuseHeaderIn:]) != "lib.so\x00" {
			errno = syscall.ENOENT
			break
		}
		out = make([]byte, 128)
		binary.LittleEndian.PutUint64(out, fuseFile)
		putAttr(out[40:], fuseFile)
	case fuseGetattr:
		f.asked.Add(1)
		out = make([]byte, 104)
		putAttr(out[16:], node)
	case fuseOpen, fuseRead:
		if f.stall.Load() {
			return
		}
		out = make([]byte, 16)
		if opcode == fuseRead {
			out = make([]byte, min(le32(in[fuseHeaderIn+16:]), fuseSize))
		}
	default:
		errno = syscall.ENOSYS
	}
	reply := binary.LittleEndian.AppendUint32(nil, uint32(fuseHeaderOut+len(out)))
	reply = binary.LittleEndian.AppendUint32(reply, uint32(-int32(errno)))
	reply = append(append(reply, unique...), out...)
	_, _ = unix.Write(f.fd, reply)
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// putAttr writes a struct fuse_attr.
func putAttr(b []byte, node uint64) {
	mode, size := uint32(unix.S_IFREG|0o755), uint64(fuseSize)
	if node == 1 {
		mode, size = unix.S_IFDIR|0o755, 0
	}
	binary.LittleEndian.PutUint64(b, node)
	binary.LittleEndian.PutUint64(b[8:], size)
	binary.LittleEndian.PutUint32(b[60:], mode)
	binary.LittleEndian.PutUint32(b[64:], 1) // nlink
}

const mapper = `import mmap, sys
f = open(sys.argv[1], "rb")
m = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
print("ready", flush=True)
sys.stdin.read()`

// startScript runs a command that says "ready" and waits for the end of its input.
func startScript(t *testing.T, command ...string) *Process {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (scripts/setup installs python3)", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("%v: %q, %v", cmd, line, err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// startMapper runs a command that ends in running mapper, and returns the
// process and its mapping of lib.so.
func startMapper(t *testing.T, command ...string) (*Process, Mapping) {
	t.Helper()
	p := startScript(t, command...)
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if strings.HasSuffix(m.Path, "/lib.so") {
			return p, m
		}
	}
	t.Fatal("the library is not mapped")
	return nil, Mapping{}
}

// A process may map a file of a file system that it serves itself, and never
// answer who opens or reads it. Nobody waits for it.
func TestFileSystemThatNeverAnswers(t *testing.T) {
	dir := t.TempDir()
	fs := mountFuse(t, dir)
	lib := filepath.Join(dir, "lib.so")
	p, m := startMapper(t, "python3", "-c", mapper, lib)
	fs.stall.Store(true)
	begin := time.Now()
	var untrusted *UntrustedFS
	if _, err := p.OpenMapped(m); !errors.As(err, &untrusted) || untrusted.Type != "fuse" {
		t.Errorf("opening the mapped file: %v, want *UntrustedFS", err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(lib, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{lib, link, dir + "/x/../lib.so"} {
		if _, err := p.OpenInRoot(path); !errors.As(err, &untrusted) {
			t.Errorf("opening %s: %v, want *UntrustedFS", path, err)
		}
		if ok, err := p.RunsExe(path); ok || err != nil {
			t.Errorf("RunsExe(%s) = %v, %v", path, ok, err)
		}
	}
	if f, err := p.OpenExe(); err != nil {
		t.Errorf("its executable, which is elsewhere: %v", err)
	} else {
		f.Close()
	}
	if n, err := p.ReadAt(make([]byte, 16), m.Start); n != 0 || !errors.As(err, &untrusted) {
		t.Errorf("reading a page that is not there yet: %d, %v, want *UntrustedFS", n, err)
	}
	if took := time.Since(begin); took > FileTimeout {
		t.Errorf("it took %v", took)
	}
}

// A process whose root is such a file system is told apart from others without a
// question to it, which could stay without an answer.
func TestRootThatNeverAnswers(t *testing.T) {
	const chroot = `import os, sys
os.chroot(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()`
	dir := t.TempDir()
	fs := mountFuse(t, dir)
	p := startScript(t, "python3", "-c", chroot, dir)
	asked := fs.asked.Load()
	root, err := p.RootIdentity()
	if err != nil || root.Inode != 1 {
		t.Errorf("%v, %v; want inode 1", root, err)
	}
	if n := fs.asked.Load() - asked; n != 0 {
		t.Errorf("the file system was asked %d times", n)
	}
}

func TestExeOf(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want, err := p.ExeIdentity()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ExeOf(os.Getpid()); err != nil || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := ExeOf(1 << 22); !errors.Is(err, ErrGone) {
		t.Errorf("a pid of no process: %v, want ErrGone", err)
	}
}

// An overlay is what containers live in. One that a user made in a namespace of
// his own may have anything below it.
func TestOverlay(t *testing.T) {
	const script = `d=$1
mount -t tmpfs none "$d" && mkdir "$d/low" "$d/up" "$d/work" "$d/all" && cp /proc/self/exe "$d/low/lib.so" &&
mount -t overlay overlay -o "lowerdir=$d/low,upperdir=$d/up,workdir=$d/work" "$d/all" && exec python3 -c "$2" "$d/all/lib.so"`
	t.Run("of the administrator", func(t *testing.T) {
		p, m := startMapper(t, "unshare", "-m", "sh", "-c", script, "sh", t.TempDir(), mapper)
		f, err := p.OpenMapped(m)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "\x7fELF" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("of a user", func(t *testing.T) {
		p, m := startMapper(t, "unshare", "-U", "-r", "-m", "sh", "-c", script, "sh", t.TempDir(), mapper)
		var untrusted *UntrustedFS
		if _, err := p.OpenMapped(m); !errors.As(err, &untrusted) || untrusted.Type != "overlay" {
			t.Errorf("%v, want *UntrustedFS", err)
		}
	})
}

func TestParseMounts(t *testing.T) {
	const text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n" +
		"41 36 0:39 / /home/u/remote rw,nosuid - fuse.sshfs u@h:/ rw,user_id=1000\n"
	got, err := parseMounts([]byte(text))
	if want := []mount{{36, 98, 0, "ext3"}, {41, 0, 39, "fuse.sshfs"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, text := range []string{"x\n", "36 35 98:0 / / rw\n", "a 35 98:0 / / rw - ext4 x rw\n", "36 35 98 / / rw - ext4 x rw\n", "36 35 98:0 / / rw -  x rw\n"} {
		if got, err := parseMounts([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
