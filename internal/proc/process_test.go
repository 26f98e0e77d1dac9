package proc

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/patch-integration-engine/pie/internal/address"
)

func self(t *testing.T) *Process {
	t.Helper()
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestSelf(t *testing.T) {
	p := self(t)
	s, err := p.Status()
	if err != nil || s.Tgid != os.Getpid() || s.PPid != os.Getppid() || s.UID != uint32(os.Geteuid()) {
		t.Errorf("%+v, %v", s, err)
	}
	if ppid, err := p.Parent(); err != nil || ppid != os.Getppid() {
		t.Errorf("parent %d, %v", ppid, err)
	}
	if cg, err := p.Cgroup(); err != nil || !strings.Contains(cg, ":") {
		t.Errorf("cgroup %q, %v", cg, err)
	}
	secret := []byte("a string in memory")
	at := address.Addr(uintptr(unsafe.Pointer(&secret[0])))
	got := make([]byte, len(secret))
	if n, err := p.ReadAt(got, at); err != nil || n != len(got) || string(got) != string(secret) {
		t.Errorf("%q, %d, %v", got, n, err)
	}
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := p.OpenExe()
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	for _, m := range maps {
		if m.HasFile() && m.File.Inode == exe.Inode {
			f, err := p.OpenMapped(m)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			a, b := make([]byte, 64), make([]byte, 64)
			if _, err := f.ReadAt(a, int64(m.Offset)); err != nil {
				t.Fatal(err)
			}
			if _, err := p.ReadAt(b, m.Start); err != nil || m.Perms&Write == 0 && string(a) != string(b) {
				t.Errorf("%v: the file and memory differ, %v", m, err)
			}
		}
	}
}

func TestReadUnmapped(t *testing.T) {
	p := self(t)
	for _, a := range []address.Addr{0, 8, 1 << 47, 0xffff800000000000, ^address.Addr(0) - 3} {
		if n, err := p.ReadAt(make([]byte, 8), a); err == nil || n != 0 {
			t.Errorf("%v: %d bytes, %v", a, n, err)
		}
	}
	// Up to the end of a mapping, and no byte beyond.
	page, err := syscall.Mmap(-1, 0, 8192, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	at := address.Addr(uintptr(unsafe.Pointer(&page[0])))
	if _, _, errno := syscall.Syscall(syscall.SYS_MUNMAP, uintptr(at)+4096, 4096, 0); errno != 0 {
		t.Fatal(errno)
	}
	if n, err := p.ReadAt(make([]byte, 100), at+4096-60); err == nil || n != 60 {
		t.Errorf("%d bytes, %v; want 60 and an error", n, err)
	}
}

// A process that ended stays gone: its number means nothing.
func TestPinned(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if name, deleted, err := p.ExePath(); err != nil || deleted || !filepath.IsAbs(name) {
		t.Errorf("%q, %v, %v", name, deleted, err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	_, errMaps := p.Maps()
	_, errStatus := p.Status()
	_, errExe := p.OpenExe()
	_, _, errPath := p.ExePath()
	_, errRead := p.ReadAt(make([]byte, 8), 0x400000)
	for _, err := range []error{errMaps, errStatus, errExe, errPath, errRead} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%v, want ErrGone", err)
		}
	}
	if _, err := Open(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
}

// A zombie, like a kernel thread, is there and has no executable.
func TestNoExe(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for {
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.State == 'Z' {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, errOpen := p.OpenExe()
	_, _, errPath := p.ExePath()
	_, errRuns := p.RunsExe("true")
	for _, err := range []error{errOpen, errPath, errRuns} {
		if !errors.Is(err, ErrNoExe) || !errors.Is(err, ErrGone) {
			t.Errorf("%v, want ErrNoExe and ErrGone", err)
		}
	}
}

// TestEndingProcess looks at a process that has let go of its memory, which takes
// the kernel a while, and is no zombie yet: it is not a kernel thread.
func TestEndingProcess(t *testing.T) {
	for range 20 {
		cmd := exec.Command("python3", "-c", "b = bytearray(b'x') * (256 << 20); print(flush=True); input()")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		p, err := Open(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		seen := whileEnding(t, cmd, p)
		p.Close()
		_ = cmd.Wait()
		if seen {
			return
		}
	}
	t.Error("no process was ever seen without memory before it was a zombie")
}

// whileEnding kills the process and tells whether it was seen on its way.
func whileEnding(t *testing.T, cmd *exec.Cmd, p *Process) bool {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		_, _, err := p.ExePath()
		s, statusErr := p.Status()
		if statusErr != nil || s.State == 'Z' || s.State == 'X' {
			return false
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrGone) {
			t.Errorf("%v, want ErrGone", err)
		}
		if kernel, err := p.KernelThread(); err != nil || kernel {
			t.Errorf("kernel thread: %v, %v", kernel, err)
		}
		return true
	}
}

func TestKernelThread(t *testing.T) {
	p, err := Open(2) // kthreadd
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if kernel, err := p.KernelThread(); err != nil || !kernel {
		t.Errorf("kthreadd: %v, %v", kernel, err)
	}
	if _, _, err := p.ExePath(); !errors.Is(err, ErrNoExe) || errors.Is(err, ErrGone) {
		t.Errorf("its executable: %v, want ErrNoExe alone", err)
	}
	if kernel, err := self(t).KernelThread(); err != nil || kernel {
		t.Errorf("this process: %v, %v", kernel, err)
	}
}

// rootedProcess starts a process whose root is a folder with a file, links and a
// pipe in it; beside the folder lies a file "secret".
func rootedProcess(t *testing.T) (p *Process, dir string) {
	t.Helper()
	dir = t.TempDir()
	inside := filepath.Join(dir, "root")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(inside, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("outside"), 0o600),
		os.WriteFile(filepath.Join(inside, "etc/file"), []byte("inside"), 0o600),
		os.Symlink("../../../../../../../../"+dir+"/secret", filepath.Join(inside, "escape")),
		os.Symlink("/etc/file", filepath.Join(inside, "absolute")),
		os.Symlink("loop", filepath.Join(inside, "loop")),
		syscall.Mkfifo(filepath.Join(inside, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	// It changes its root when it runs, as there is no program in it.
	cmd := exec.Command("python3", "-c", "import os,sys; os.chroot(sys.argv[1]); print('ready', flush=True); sys.stdin.read()", inside)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (scripts/setup installs python3)", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	if _, err := stdout.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if p, err = Open(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, dir
}

// A path cannot lead out of the process's root, and only regular files are
// opened.
func TestOpenInRoot(t *testing.T) {
	p, dir := rootedProcess(t)
	for _, name := range []string{"/etc/file", "/absolute", "/../../etc/file", "etc/./file", "/etc/../absolute"} {
		f, err := p.OpenInRoot(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b := make([]byte, f.Size)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "inside" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		f.Close()
	}
	for name, want := range map[string]error{
		"/escape": syscall.ENOENT, "/proc/self/exe": syscall.ENOENT, filepath.Join(dir, "secret"): syscall.ENOENT,
		"/loop": syscall.ELOOP, "/etc/file/x": syscall.ENOTDIR, "/pipe": ErrNotRegular, "/etc": ErrNotRegular, "/": ErrNotRegular, "": ErrNotRegular,
		strings.Repeat("/etc/..", 1000): syscall.ENAMETOOLONG,
	} {
		f, err := p.OpenInRoot(name)
		if err == nil {
			t.Errorf("%.40q is opened, as inode %d", name, f.Inode)
			f.Close()
		} else if !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", name, err, want)
		}
	}
}

func TestWithin(t *testing.T) {
	if v, err := within(time.Second, func() int { return 3 }, nil); v != 3 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	release, late := make(chan bool), make(chan int, 1)
	_, err := within(10*time.Millisecond, func() int { <-release; return 4 }, func(v int) { late <- v })
	if !errors.Is(err, ErrSlowFile) {
		t.Errorf("%v, want ErrSlowFile", err)
	}
	close(release)
	if v := <-late; v != 4 {
		t.Errorf("the late result is %d", v)
	}
}

// An ordinary user sees its own processes by the fallback through the path.
func TestOrdinaryUser(t *testing.T) {
	if os.Getenv("PIE_PROC_AS_USER") != "" {
		p := self(t)
		maps, err := p.Maps()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range maps {
			if m.HasFile() {
				f, err := p.OpenMapped(m)
				if err != nil {
					t.Errorf("%v: %v", m, err)
					continue
				}
				f.Close()
			}
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("the tests run as root")
	}
	exe := filepath.Join("/tmp", "pie-proc-"+strconv.Itoa(os.Getpid()))
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(exe)
	cmd := exec.Command(exe, "-test.run=TestOrdinaryUser$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PIE_PROC_AS_USER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
