package proc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

// withholder maps two pages, writes to the first, has userfaultfd(2) answer for what is
// missing, and never answers. It writes the address to the file that it is given.
const withholder = `import ctypes, fcntl, mmap, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
m = mmap.mmap(-1, 8192)
m[0:4] = b"here"
at = ctypes.addressof(ctypes.c_char.from_buffer(m))
fd = libc.syscall(323, 0)
if fd < 0: sys.exit("userfaultfd: errno %d" % ctypes.get_errno())
fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))          # UFFDIO_API
fcntl.ioctl(fd, 0xc020aa00, struct.pack("QQQQ", at, 8192, 1, 0))     # UFFDIO_REGISTER, missing pages
open(sys.argv[1], "w").write(str(at))
print("ready", flush=True)
sys.stdin.read()`

// A page that a program keeps with userfaultfd(2) keeps nobody; pages that are there
// are read.
func TestMemoryThatIsWithheld(t *testing.T) {
	file := filepath.Join(t.TempDir(), "at")
	p := startScript(t, "python3", "-c", withholder, file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	at := address.Addr(n)
	begin := time.Now()
	for _, from := range []address.Addr{at + pageSize, at + pageSize - 4} {
		if n, err := p.ReadAt(make([]byte, 8), from); n == 8 || err == nil {
			t.Errorf("reading at %v: %d, %v", from, n, err)
		}
	}
	if took := time.Since(begin); took > 2*FileTimeout {
		t.Errorf("two reads took %v", took)
	}
	b := make([]byte, 4)
	if _, err := p.ReadAt(b, at); err != nil || string(b) != "here" {
		t.Errorf("the page that is there: %q, %v", b, err)
	}
}

// A page of a file system that does not answer is waited for as long as a file may
// take, and once.
func TestMemoryThatNeverComes(t *testing.T) {
	dir := t.TempDir()
	fs := mountFuse(t, dir)
	p, m := startMapper(t, "python3", "-c", mapper, filepath.Join(dir, "lib.so"))
	fs.stall.Store(true)
	// A stand-in for a network's file system: nobody asks whose it is.
	p.mem.served.until, p.timeout = time.Now().Add(time.Minute), 300*time.Millisecond
	begin := time.Now()
	for range 3 {
		if n, err := p.ReadAt(make([]byte, 8), m.Start); n != 0 || !errors.Is(err, ErrSlowMemory) {
			t.Errorf("read %d, %v, want ErrSlowMemory", n, err)
		}
	}
	if took := time.Since(begin); took < p.timeout || took > 3*p.timeout+time.Second {
		t.Errorf("three reads took %v", took)
	}
	if err := unix.Unmount(dir, unix.MNT_FORCE); err != nil && err != unix.EBUSY { // ends what waits
		t.Error(err)
	}
}

// Pages that are not there, but come, are read as those that are: what was never touched
// reads as zero, and what was never mapped is an error.
func TestReadsAcrossPagesThatAreNotThere(t *testing.T) {
	p, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, at := mapped(t, 300)
	copy(b[299*pageSize:], "end")
	got := make([]byte, len(b))
	got[5] = 1
	if n, err := p.ReadAt(got, at); n != len(b) || err != nil {
		t.Fatalf("read %d bytes of %d: %v", n, len(b), err)
	}
	if string(got) != string(b) {
		t.Error("what was read is something else")
	}
	if n, err := p.ReadAt(make([]byte, len(b)+1), at); n != len(b) || err == nil {
		t.Errorf("past the end of memory: %d, %v", n, err)
	}
}

// mapped maps pages that have nothing mapped behind them.
func mapped(t *testing.T, pages int) ([]byte, address.Addr) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, (pages+1)*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	end := pages * pageSize
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, uintptr(unsafe.Pointer(&b[end])), pageSize, 0); errno != 0 {
		t.Fatal(errno)
	}
	return b[:end], address.Addr(uintptr(unsafe.Pointer(&b[0])))
}

// A mapping that grows while the text is read comes out twice; the text is read again.
func TestMapsThatChange(t *testing.T) {
	const once, twice = "1000-2000 rw-p 00000000 00:00 0\n", "1000-2000 rw-p 00000000 00:00 0\n1000-3000 rw-p 00000000 00:00 0\n"
	reads := 0
	maps, err := readMaps(7, func() ([]byte, error) {
		if reads++; reads < 5 {
			return []byte(twice), nil
		}
		return []byte(once), nil
	})
	if err != nil || len(maps) != 1 || reads != 5 {
		t.Errorf("%d reads: %v, %v", reads, maps, err)
	}
	if _, err := readMaps(7, func() ([]byte, error) { return []byte(twice), nil }); !errors.Is(err, ErrChanged) {
		t.Errorf("always twice: %v", err)
	}
}
