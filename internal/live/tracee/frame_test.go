package tracee

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
)

func TestRewound(t *testing.T) {
	const none = ^uint64(0)
	errno := func(e int64) uint64 { return uint64(-e) }
	for _, c := range []struct {
		name                       string
		orig, rax                  uint64
		wantOrig, wantRax, wantRip uint64
	}{
		{"computing", none, 7, none, 7, 100},
		{"computing with what looks like a restart", none, errno(512), none, errno(512), 100},
		{"a call that has ended", unix.SYS_READ, 5, none, 5, 100},
		{"a call that has failed", unix.SYS_READ, errno(9), none, errno(9), 100},
		{"ERESTARTSYS", unix.SYS_READ, errno(512), none, unix.SYS_READ, 98},
		{"ERESTARTNOINTR", unix.SYS_FUTEX, errno(513), none, unix.SYS_FUTEX, 98},
		{"ERESTARTNOHAND, also for a hidden EINTR", unix.SYS_EPOLL_WAIT, errno(514), none, unix.SYS_EPOLL_WAIT, 98},
		{"ERESTART_RESTARTBLOCK", unix.SYS_NANOSLEEP, errno(516), none, unix.SYS_NANOSLEEP, 98},
	} {
		got := rewound(unix.PtraceRegs{Orig_rax: c.orig, Rax: c.rax, Rip: 100})
		if got.Orig_rax != c.wantOrig || got.Rax != c.wantRax || got.Rip != c.wantRip {
			t.Errorf("%s: orig_rax %#x, rax %#x, rip %d; want %#x, %#x, %d", c.name, got.Orig_rax, got.Rax, got.Rip, c.wantOrig, c.wantRax, c.wantRip)
		}
	}
}

func TestOnlyACallsOwnEINTRIsHidden(t *testing.T) {
	eintr := ^uint64(0) - uint64(unix.EINTR) + 1
	for _, c := range []struct {
		name      string
		orig, rax uint64
		want      bool
	}{
		{"epoll_wait", unix.SYS_EPOLL_WAIT, eintr, true},
		{"accept4", unix.SYS_ACCEPT4, eintr, true},
		{"epoll_wait that found something", unix.SYS_EPOLL_WAIT, 1, false},
		{"close, which has closed", unix.SYS_CLOSE, eintr, false},
		{"user code with the same number in rax", ^uint64(0), eintr, false},
	} {
		if got := sawEINTR(&unix.PtraceRegs{Orig_rax: c.orig, Rax: c.rax}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestAfterRseq(t *testing.T) {
	var cs [32]byte
	le := binary.LittleEndian
	le.PutUint64(cs[8:], 1000)
	le.PutUint64(cs[16:], 50)
	le.PutUint64(cs[24:], 9000)
	for pc, want := range map[uint64]uint64{999: 999, 1000: 9000, 1049: 9000, 1050: 1050, 0: 0, 9000: 9000} {
		if got := afterRseq(cs, pc); got != want {
			t.Errorf("at %d: goes on at %d, want %d", pc, got, want)
		}
	}
}

func TestUsedXState(t *testing.T) {
	const tiles = 2752
	state := func(xcr0, inUse uint64) []byte {
		b := make([]byte, tiles+8192)
		binary.LittleEndian.PutUint64(b[swReserved:], xcr0)
		binary.LittleEndian.PutUint64(b[xstateBV:], inUse)
		return b
	}
	const avx512, amx = 0xe7, 0x600e7
	for _, c := range []struct {
		name        string
		xcr0, inUse uint64
		want        int
	}{
		{"no AMX", avx512, avx512, tiles + 8192},
		{"AMX, unused", amx, avx512, tiles},
		{"AMX in use", amx, amx, tiles + 8192},
	} {
		if got := len(usedXState(state(c.xcr0, c.inUse), tiles)); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

func TestBuildFrameRefusesWhatDoesNotFit(t *testing.T) {
	b := make([]byte, frameMax)
	for _, c := range []struct {
		name   string
		at     uint64
		xstate int
	}{
		{"misaligned", 0x1008, 832},
		{"no XSAVE header", 0x1000, 512},
		{"too long", 0x1000, frameMax - frameXState},
	} {
		if err := buildFrame(b, address.Addr(c.at), 1, gadgets{}, &unix.PtraceRegs{}, 0, make([]byte, c.xstate)); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}
