package tracee

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jump(code uint16, k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: code, K: k, Jt: jt, Jf: jf}
}

// Offsets in struct seccomp_data.
const (
	dataNR   = 0
	dataArch = 4
	dataArg2 = 32 // low half
)

func TestRunFilter(t *testing.T) {
	const ld, ret, retA = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_RET | unix.BPF_K, unix.BPF_RET | unix.BPF_A
	noExec := []unix.SockFilter{ // mmap with PROT_EXEC: EPERM
		stmt(ld, dataArch),
		jump(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0xc000003e, 1, 0),
		stmt(ret, 0x80000000),
		stmt(ld, dataNR),
		jump(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_MMAP, 0, 2),
		stmt(ld, dataArg2),
		jump(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, unix.PROT_EXEC, 1, 0),
		stmt(ret, retAllow),
		stmt(ret, retErrno|uint32(unix.EPERM)),
	}
	arithmetic := []unix.SockFilter{ // ((nr*3+1)^x)>>1 with x=5, through scratch memory
		stmt(ld, dataNR),
		stmt(unix.BPF_ALU|unix.BPF_MUL|unix.BPF_K, 3),
		stmt(unix.BPF_ALU|unix.BPF_ADD|unix.BPF_K, 1),
		stmt(unix.BPF_ST, 7),
		stmt(unix.BPF_LDX|unix.BPF_W|unix.BPF_IMM, 5),
		stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_MEM, 7),
		stmt(unix.BPF_ALU|unix.BPF_XOR|unix.BPF_X, 0),
		stmt(unix.BPF_ALU|unix.BPF_RSH|unix.BPF_K, 1),
		stmt(retA, 0),
	}
	for _, c := range []struct {
		name string
		prog []unix.SockFilter
		nr   uint64
		args []uint64
		want uint32
	}{
		{"mmap r-x", noExec, unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, retErrno | 1},
		{"mmap rw-", noExec, unix.SYS_MMAP, []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, retAllow},
		{"another call", noExec, unix.SYS_MUNMAP, nil, retAllow},
		{"arithmetic", arithmetic, 9, nil, ((9*3 + 1) ^ 5) >> 1},
	} {
		got, err := runFilter(c.prog, newSeccompData(c.nr, 0x1234, c.args))
		if err != nil || got != c.want {
			t.Errorf("%s: %#x, %v; want %#x", c.name, got, err, c.want)
		}
	}
}

func TestRunFilterRefusesNonsense(t *testing.T) {
	for name, prog := range map[string][]unix.SockFilter{
		"empty":                 nil,
		"runs off its end":      {stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0)},
		"load past the data":    {stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 64), stmt(unix.BPF_RET, 0)},
		"unaligned load":        {stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 2), stmt(unix.BPF_RET, 0)},
		"scratch out of bounds": {stmt(unix.BPF_ST, 16), stmt(unix.BPF_RET, 0)},
		"division by zero":      {stmt(unix.BPF_ALU|unix.BPF_DIV|unix.BPF_X, 0), stmt(unix.BPF_RET, 0)},
		"jump past the end":     {jump(unix.BPF_JMP|unix.BPF_JA, 0xffffffff, 0, 0), stmt(unix.BPF_RET, 0)},
	} {
		if ret, err := runFilter(prog, newSeccompData(0, 0, nil)); err == nil {
			t.Errorf("%s: %#x, no error", name, ret)
		}
	}
}

// The kernel lets a process have thousands of filters. Reading them takes longer than
// a stop may last: it must be refused, not end by the watchdog, which kills pie.
func TestThousandsOfFilters(t *testing.T) {
	for _, c := range []struct {
		filters string
		want    error
	}{{"100", nil}, {"1000", ErrNoRemoteSyscall}} {
		v := startVictim(t, "filters", c.filters)
		if v.answer < 100 {
			t.Fatalf("the kernel allowed %d filters only", v.answer)
		}
		p, err := Open(v.pid())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		tr, err := NewTracer(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		err = tr.Attach(t.Context(), p, func(a *Attached) error {
			pid, err := a.Syscall(unix.SYS_GETPID)
			if err == nil && int(pid) != v.pid() {
				t.Errorf("getpid is %d, not %d", pid, v.pid())
			}
			return err
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s filters: %v, want %v", c.filters, err, c.want)
		}
	}
}

func FuzzRunFilter(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x06, 0, 0, 0, 0, 0, 0xff, 0x7f})
	f.Add([]byte{0x05, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x06, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var prog []unix.SockFilter
		for ; len(b) >= 8; b = b[8:] {
			prog = append(prog, unix.SockFilter{Code: uint16(b[0]) | uint16(b[1])<<8, Jt: b[2], Jf: b[3],
				K: uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24})
		}
		_, _ = runFilter(prog, newSeccompData(9, 1, []uint64{1, 2, 3}))
	})
}
