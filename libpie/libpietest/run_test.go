package libpietest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/libpietest"
)

type request struct {
	_      uint8
	length int32
	_      libpie.Addr
	body   [4]uint16
}

var (
	hits  libpie.Counter
	seen  = libpie.NewMap[libpie.Addr, int32](100)
	depth = libpie.NewPerThread[int32](4)
	rate  = libpie.NewLimiter[uint32](libpie.Limit{Calls: 1, Seconds: 1, Burst: 3, Keys: 10, Full: libpie.FullRefuse})
)

func count(c *libpie.Call, key libpie.Addr) libpie.Verdict {
	hits.Add(c, 1)
	depth.Add(c, 1)
	if n, ok := seen.Add(c, key, 1); !ok || n > 2 {
		return libpie.Reject(n)
	}
	return libpie.Pass()
}

// State is the process's own, and a fork's a copy.
func TestState(t *testing.T) {
	p, other := libpietest.New(t), libpietest.New(t)
	for i, want := range []bool{true, true, false} {
		if r := p.Run(count, libpie.Addr(0)); r.Passed() != want {
			t.Errorf("call %d: %v", i, r)
		}
	}
	child := p.Fork()
	if r := child.Run(count, libpie.Addr(1)); !r.Passed() {
		t.Errorf("another key: %v", r)
	}
	for _, x := range []struct {
		p    *libpietest.Process
		want uint64
	}{{p, 3}, {child, 4}, {other, 0}} {
		if n := hits.Value(x.p.Call()); n != x.want {
			t.Errorf("%d hits, want %d", n, x.want)
		}
	}
	p.SetTid(7)
	if n := depth.Get(p.Call()); n != 0 {
		t.Errorf("a new thread has %d", n)
	}
	if n, found := seen.Get(p.Call(), 0); n != 3 || !found {
		t.Errorf("key 0 has %d, %v", n, found)
	}
	if n, found := seen.Get(p.Call(), 1); n != 0 || found {
		t.Errorf("key 1 has %d, %v", n, found)
	}
}

// A limiter lets a burst through, then the rate.
func TestLimiter(t *testing.T) {
	p := libpietest.New(t)
	allowed := func(key uint32) (n int) {
		for range 10 {
			if rate.Allow(p.Call(), key) {
				n++
			}
		}
		return n
	}
	for _, x := range []struct {
		after int64 // seconds
		want  int
	}{{0, 3}, {1, 1}, {2, 2}, {100, 3}} {
		p.SetNow(p.Now() + x.after*1e9)
		if n := allowed(5); n != x.want {
			t.Errorf("%d s later %d of 10 calls are allowed, want %d", x.after, n, x.want)
		}
	}
	// Many keys: some find no room, and none comes through more often than it may.
	full := 0
	for key := range uint32(1000) {
		switch n := allowed(key + 10); n {
		case 0:
			full++
		case 3:
		default:
			t.Errorf("key %d: %d of 10 calls", key, n)
		}
	}
	if full < 900 {
		t.Errorf("only %d of 1000 keys found no room where there is some for 10", full)
	}
	p.SetNow(p.Now() + 10e9)
	if n := allowed(2000); n != 3 {
		t.Errorf("when all others are idle a new key has %d calls", n)
	}
}

var used int // Go drops a read that nobody uses

func TestReadsOfBadMemoryFault(t *testing.T) {
	p := libpietest.New(t)
	text := p.Bytes([]byte("abc"))
	readers := map[string]func(c *libpie.Call, a libpie.Addr){
		"field":    func(c *libpie.Call, a libpie.Addr) { used += int(libpie.At[request](a).length) },
		"element":  func(c *libpie.Call, a libpie.Addr) { used += int(libpie.At[request](a).body[3]) },
		"byte":     func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 1).At(0) },
		"count":    func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).Count('x') },
		"index":    func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).Index('x') },
		"find":     func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).Find("xy") },
		"prefix":   func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).HasPrefix("abcdef") },
		"suffix":   func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).HasSuffix("x") },
		"equal":    func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).Equal("abcdefghi") },
		"equalmem": func(c *libpie.Call, a libpie.Addr) { c.Bytes(a, 9).EqualMem(c.Bytes(a, 9)) },
		"cstr":     func(c *libpie.Call, a libpie.Addr) { c.CStr(a, 9) },
	}
	places := map[string]libpie.Addr{
		"NULL": 0, "small": 5, "last page of the first 64 KiB": 0xf123, "unmapped": p.Unmapped(),
		"short": text, "kernel": 0xffff800000001000, "non-canonical": 0x4141414141414141,
	}
	for what, read := range readers {
		for where, a := range places {
			t.Run(what+" at "+where, func(t *testing.T) {
				guard := func(c *libpie.Call, a libpie.Addr) libpie.Verdict {
					read(c, a)
					return libpie.Pass()
				}
				r := p.Run(guard, a)
				if what == "byte" && where == "short" {
					if !r.Passed() {
						t.Errorf("a readable byte: %v", r)
					}
				} else if !r.Faulted {
					t.Errorf("got %v, want a fault", r)
				}
			})
		}
	}
}

// A reader looks no further than its answer needs.
func TestReadersStopEarly(t *testing.T) {
	p := libpietest.New(t)
	a := p.Bytes([]byte("GET /x\x00"))
	guard := func(c *libpie.Call, a libpie.Addr) libpie.Verdict {
		m := c.Bytes(a, 4096)
		s, ok := c.CStr(a, 4096)
		if m.Index('/') != 4 || m.Find("/x") != 4 || !m.HasPrefix("GET ") || s.Len() != 6 || !ok {
			return libpie.Reject(int32(-1))
		}
		return libpie.Pass()
	}
	if r := p.Run(guard, a); !r.Passed() {
		t.Errorf("got %v", r)
	}
}

func TestGoPanicsFault(t *testing.T) {
	p := libpietest.New(t)
	guards := map[string]func(c *libpie.Call, n int) libpie.Verdict{
		"division": func(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(1 / n) },
		"index":    func(c *libpie.Call, n int) libpie.Verdict { var a [2]int; return libpie.Reject(a[n-1]) },
		"nil":      func(c *libpie.Call, n int) libpie.Verdict { var r *request; return libpie.Reject(r.length) },
		"shift":    func(c *libpie.Call, n int) libpie.Verdict { return libpie.Reject(1 << (n - 1)) },
		"length":   func(c *libpie.Call, n int) libpie.Verdict { c.Bytes(0, n-1); return libpie.Pass() },
		"too long": func(c *libpie.Call, n int) libpie.Verdict { c.Bytes(0, n+libpie.MaxLength+1); return libpie.Pass() },
		"panic":    func(c *libpie.Call, n int) libpie.Verdict { panic("no") },
	}
	for what, guard := range guards {
		if r := p.Run(guard, 0); !r.Faulted || r.Reason == "" {
			t.Errorf("%s: got %v, want a fault", what, r)
		}
	}
}

// Words are cut and extended as the declared types say, whatever is in the rest
// of the register.
func TestParametersComeFromTheLowBytes(t *testing.T) {
	p := libpietest.New(t)
	guard := func(c *libpie.Call, a int8, b uint16, d int32, e bool, f uint64) libpie.Verdict {
		if a != -1 || b != 0xfffe || d != -3 || !e || f != 1<<63 || libpie.Arg[uint32](c, 5) != 0xffffffff {
			return libpie.Reject(int32(-1))
		}
		return libpie.Pass()
	}
	if r := p.RunWords(guard, 0x77ff, 0xdeadfffe, 0xbad_0000_fffffffd, 0xff00_0002, 1<<63, 0x1_ffffffff); !r.Passed() {
		t.Errorf("from words: %v", r)
	}
	all := func(c *libpie.Call, s libpie.GoString, b libpie.GoSlice, r *request, flag bool) libpie.Verdict {
		if !c.Bytes(s.Ptr, s.Len).Equal("hello") || !c.Bytes(b.Ptr, b.Len).Equal("hi") || r.body[2] != 7 || flag {
			return libpie.Reject(int32(-1))
		}
		return libpie.Pass()
	}
	if r := p.Run(all, "hello", p.GoSlice([]byte("hi")), &request{body: [4]uint16{2: 7}}, false); !r.Passed() {
		t.Errorf("from values: %v", r)
	}
}

// A pointer that is too low to be readable is a pointer all the same.
func TestLowPointersSurvive(t *testing.T) {
	p := libpietest.New(t)
	guard := func(c *libpie.Call, r *request) libpie.Verdict {
		if r == nil || libpie.AddrOf(r) != 5 || libpie.AddrOf(&r.length) != 9 || libpie.AddrOf(libpie.At[request](0)) != 0 {
			return libpie.Reject(int32(-1))
		}
		return libpie.Pass()
	}
	if r := p.RunWords(guard, 5); !r.Passed() {
		t.Errorf("got %v", r)
	}
}

func TestVerdicts(t *testing.T) {
	p := libpietest.New(t)
	for _, test := range []struct {
		verdict libpie.Verdict
		want    string
	}{
		{libpie.Pass(), "pass"},
		{libpie.Log(7), "log 7"},
		{libpie.Reject(int32(-1)), "reject -1"},
		{libpie.Reject(uint8(200)), "reject 200"},
		{libpie.Reject(true), "reject 1"},
		{libpie.RejectVoid(), "reject"},
		{libpie.RejectPtr(0), "reject 0"},
		{libpie.RejectErrno(libpie.EINVAL, -1), "reject -1 errno 22"},
		{libpie.RejectGo(libpie.Word(3), libpie.GoVar("io.EOF")), "reject 3 io.EOF"},
	} {
		r := p.Run(func(c *libpie.Call) libpie.Verdict { return test.verdict })
		if r.String() != test.want {
			t.Errorf("got %q, want %q", r, test.want)
		}
	}
	if r := p.Run(func(c *libpie.Call) libpie.Verdict { return libpie.RejectFloat(-2.5) }); !r.HasFloat || r.Float != 0xc004000000000000 {
		t.Errorf("float: %#x", r.Float)
	}
	if r := p.Run(func(c *libpie.Call) libpie.Verdict { return libpie.Reject(int32(-1)).WithCode(9) }); r.Code != 9 || r.Value() != -1 {
		t.Errorf("code: %v %d", r, r.Code)
	}
}

func TestClockThreadAndFuel(t *testing.T) {
	p := libpietest.New(t)
	p.SetNow(5e9)
	p.SetTid(77)
	p.SetReturnAddr(0x1234)
	guard := func(c *libpie.Call) libpie.Verdict {
		if c.Now() != 5e9 || c.Tid() != 77 || c.ReturnAddr() != 0x1234 {
			return libpie.Reject(int32(-1))
		}
		return libpie.Pass()
	}
	if r := p.Run(guard); !r.Passed() {
		t.Errorf("got %v", r)
	}
	long := p.Bytes([]byte(strings.Repeat("a", 4<<20)))
	count := func(c *libpie.Call, a libpie.Addr, n int) libpie.Verdict {
		return libpie.Reject(c.Bytes(a, n).Count('a'))
	}
	if r := p.Run(count, long, 4<<20); !r.OutOfFuel {
		t.Errorf("4 MiB: %v", r)
	}
	if r := p.Run(count, long, 1<<20); r.Value() != 1<<20 || r.Fuel != 1<<20/64 {
		t.Errorf("1 MiB: %v, %d units", r, r.Fuel)
	}
}

func ExampleProcess_Run() {
	t := &testing.T{} // given by go test
	guard := func(c *libpie.Call, s libpie.Addr) libpie.Verdict {
		if s == 0 {
			return libpie.RejectPtr(0)
		}
		return libpie.Pass()
	}
	p := libpietest.New(t)
	fmt.Println(p.Run(guard, libpie.Addr(0)))
	fmt.Println(p.Run(guard, libpie.Addr(0x7fff0000)))
	// Output:
	// reject 0
	// pass
}

func edit(c *libpie.Call, a libpie.Addr, n int64) libpie.Verdict {
	c.Put8(a, 'x')
	c.Put16(a+1, 0x4241)
	c.Put32(a+3, 0x46454443)
	c.Put64(a+7, 0x3837363534333231)
	c.Zero(a+8, int(n))
	return libpie.Pass()
}

// What a guard writes can be looked at; what it cannot write is a fault.
func TestWrites(t *testing.T) {
	p := libpietest.New(t)
	const size = 15
	for _, x := range []struct {
		at     libpie.Addr
		n      int64
		passes bool
		want   string // of what was there before the end
	}{
		{p.Bytes(make([]byte, size)), 0, true, "xABCDEF12345678"},
		{p.Bytes(make([]byte, size)), 3, true, "xABCDEF1\x00\x00\x005678"},
		{p.Bytes(make([]byte, size)), 8, false, "xABCDEF1\x00\x00\x00\x00\x00\x00\x00"},
		{p.Bytes(make([]byte, size)), -1, false, "xABCDEF12345678"},
		{p.Bytes(make([]byte, size)), libpie.MaxLength + 1, false, "xABCDEF12345678"},
		{p.ReadOnly([]byte("abcdefghijklmno")), 0, false, "abcdefghijklmno"},
		{p.Unmapped(), 0, false, ""},
		{0, 0, false, ""},
	} {
		r := p.Run(edit, x.at, x.n)
		if r.Passed() != x.passes || r.Faulted == x.passes {
			t.Errorf("%d bytes at %#x: %v", x.n, x.at, r)
		}
		if x.want == "" {
			continue
		}
		if got := string(p.Memory(x.at, size)); got != x.want {
			t.Errorf("%d bytes: %q, want %q", x.n, got, x.want)
		}
	}
}
