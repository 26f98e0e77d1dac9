package libpietest

import (
	"encoding/binary"
	"os"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"github.com/patch-integration-engine/pie/libpie"
	"github.com/patch-integration-engine/pie/libpie/internal/native"
)

// Process is a pretend target: memory, a clock, a thread. It is not safe for
// use by several goroutines.
type Process struct {
	tb       testing.TB
	tid      int32
	now      int64
	ret      libpie.Addr
	unmapped libpie.Addr

	state     state
	stackUsed int
	globals   map[string]libpie.Addr
	functions map[string][2]libpie.Addr
	invoked   map[string]func(args []uint64) libpie.Returned
}

// New returns a process whose memory lives as long as the test.
func New(tb testing.TB) *Process {
	return &Process{
		tb: tb, tid: 4242, now: 1e9, ret: 0x401000, stackUsed: 4096, state: newState(),
		globals: map[string]libpie.Addr{}, functions: map[string][2]libpie.Addr{},
		invoked: map[string]func([]uint64) libpie.Returned{},
	}
}

// SetTid sets what the guard's Tid returns.
func (p *Process) SetTid(tid int32) { p.tid = tid }

// SetNow sets what the guard's Now returns, in nanoseconds.
func (p *Process) SetNow(ns int64) { p.now = ns }

// Now returns what the guard's Now returns.
func (p *Process) Now() int64 { return p.now }

// SetReturnAddr sets what the guard's ReturnAddr returns.
func (p *Process) SetReturnAddr(a libpie.Addr) { p.ret = a }

// SetStackUsed sets what the guard's StackUsed returns, in bytes; below 0 it is a
// fault, as on a stack whose end is not known.
func (p *Process) SetStackUsed(n int) { p.stackUsed = n }

// SetGlobal sets where the guard's Global finds a variable.
func (p *Process) SetGlobal(name string, a libpie.Addr) { p.globals[name] = a }

// SetFunction says that a function of the process is from start up to end, for
// the guard's CalledFrom.
func (p *Process) SetFunction(name string, start, end libpie.Addr) {
	p.functions[name] = [2]libpie.Addr{start, end}
}

// SetInvoke says what the guard's Invoke of a function does: f is given the
// arguments. With nil it is a fault, as where the stack has no room.
func (p *Process) SetInvoke(name string, f func(args []uint64) libpie.Returned) { p.invoked[name] = f }

// Bytes puts b into the process. The byte behind its last cannot be read.
func (p *Process) Bytes(b []byte) libpie.Addr {
	p.tb.Helper()
	page := os.Getpagesize()
	size := max((len(b)+page-1)/page, 1) * page
	mem := p.reserve(size + 2*page)
	inner := mem[page : page+size]
	if err := syscall.Mprotect(inner, syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		p.tb.Fatalf("libpietest: making %d bytes readable: %v", size, err)
	}
	at := inner[size-len(b):]
	copy(at, b)
	return libpie.Addr(uintptr(unsafe.Pointer(unsafe.SliceData(inner)))) + libpie.Addr(size-len(b))
}

// ReadOnly is Bytes for memory that cannot be written.
func (p *Process) ReadOnly(b []byte) libpie.Addr {
	p.tb.Helper()
	page := os.Getpagesize()
	at := p.Bytes(b)
	start := uintptr(at) &^ uintptr(page-1)
	size := (len(b) + page - 1) / page * page
	if err := syscall.Mprotect(unsafe.Slice((*byte)(native.Pointer(uint64(start))), size), syscall.PROT_READ); err != nil {
		p.tb.Fatalf("libpietest: making %d bytes read-only: %v", size, err)
	}
	return at
}

// Memory returns a copy of n bytes of the process from a on, all of which can be
// read: what a guard has written there.
func (p *Process) Memory(a libpie.Addr, n int) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(native.Pointer(uint64(a))), n)...)
}

// CString puts s and a NUL into the process. The byte behind the NUL cannot be
// read.
func (p *Process) CString(s string) libpie.Addr {
	p.tb.Helper()
	return p.Bytes(append([]byte(s), 0))
}

// GoString puts s into the process as a Go program holds it: without a NUL.
func (p *Process) GoString(s string) libpie.GoString {
	p.tb.Helper()
	return libpie.GoString{Ptr: p.Bytes([]byte(s)), Len: len(s)}
}

// GoSlice puts b into the process as a Go program holds a []byte.
func (p *Process) GoSlice(b []byte) libpie.GoSlice {
	p.tb.Helper()
	return libpie.GoSlice{Ptr: p.Bytes(b), Len: len(b), Cap: len(b)}
}

// Place puts v, a mirror struct or another plain type, into the process. The
// byte behind it cannot be read.
func Place[T any](p *Process, v T) libpie.Addr {
	p.tb.Helper()
	return p.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
}

// Unmapped returns an address at which nothing can be read; neither can
// anything in the 64 KiB behind it.
func (p *Process) Unmapped() libpie.Addr {
	p.tb.Helper()
	if p.unmapped == 0 {
		p.unmapped = libpie.Addr(uintptr(unsafe.Pointer(unsafe.SliceData(p.reserve(64 << 10)))))
	}
	return p.unmapped
}

// reserve maps size bytes that cannot be accessed.
func (p *Process) reserve(size int) []byte {
	p.tb.Helper()
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		p.tb.Fatalf("libpietest: mapping %d bytes: %v", size, err)
	}
	p.tb.Cleanup(func() {
		if err := syscall.Munmap(mem); err != nil {
			p.tb.Errorf("libpietest: unmapping %d bytes: %v", size, err)
		}
	})
	return mem
}

// words returns the argument words of v as the parameter type t takes them.
// What a word does not need of its register is garbage.
func (p *Process) words(v reflect.Value, t reflect.Type) []uint64 {
	p.tb.Helper()
	if v.Kind() == reflect.String && t == reflect.TypeFor[libpie.GoString]() {
		v = reflect.ValueOf(p.GoString(v.String()))
	}
	if v.Type() != t {
		p.tb.Fatalf("libpietest: the guard takes a %v here, not a %v", t, v.Type())
	}
	switch t.Kind() {
	case reflect.Struct:
		var words []uint64
		for i := range t.NumField() {
			words = append(words, p.words(v.Field(i), t.Field(i).Type)...)
		}
		return words
	case reflect.Pointer:
		return []uint64{native.Address(v.UnsafePointer())}
	}
	const garbage = 0xa5a5a5a5a5a5a5a5
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], native.Word(v))
	if size := int(t.Size()); size < 8 {
		binary.LittleEndian.PutUint64(b[:], garbage<<(8*size)|native.Word(v)&(1<<(8*size)-1))
	}
	return []uint64{binary.LittleEndian.Uint64(b[:])}
}
