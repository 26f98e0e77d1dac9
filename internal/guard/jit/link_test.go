package jit

import (
	"bytes"
	"errors"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// goesBack is a way back to a function that no test runs.
func goesBack(at address.Addr) ([]byte, error) { return Jump(at, codeAt+codeLen, jmpSize) }

func nowhere(at address.Addr) ([]byte, error) { return Jump(at, at+1<<40, jmpSize) }

func TestLinkRoundTrip(t *testing.T) {
	const at = codeAt + 0x48
	for _, to := range []address.Addr{0, codeAt, at, at + 5, at + 1<<31 + 4, at - 1<<31 + 5} {
		b, err := Link(at, to)
		if err != nil || len(b) != LinkSize {
			t.Fatalf("link to %v: % x, %v", to, b, err)
		}
		if got, ok := ReadLink(at, b); !ok || got != to {
			t.Errorf("% x leads to %v, %v; want %v", b, got, ok, to)
		}
	}
	for _, to := range []address.Addr{at + 1<<31 + 5, at - 1<<31 + 4, at + 1<<40} {
		if b, err := Link(at, to); !errors.Is(err, errJumpReach) {
			t.Errorf("link to %v: % x, %v", to, b, err)
		}
	}
	for _, b := range [][]byte{
		nil, {0xe9}, {0xe9, 0, 0, 0, 0, 0xcc, 0xcc, 0x90}, {0xe8, 0, 0, 0, 0}, {0x0f, 0x1f, 0x44, 0, 1},
		bytes.Repeat([]byte{0xcc}, LinkSize), linkThrough[:LinkSize-1],
	} {
		if to, ok := ReadLink(at, b); ok {
			t.Errorf("% x is taken for a link to %v", b, to)
		}
	}
}

// TestChain: guards that are linked run in order, and the first that rejects
// ends the call; what runs ahead of a guard runs once, ahead of the first.
func TestChain(t *testing.T) {
	m := newMachine(t)
	atLeast := func(n string) string {
		return "ldxdw %r2, [%r1+0]\njge %r2, " + n + ", +3\nstdw [%r1+128], " + n + "\nmov %r0, 0x101\nexit\nmov %r0, 0\nexit"
	}
	count := func(address.Addr) ([]byte, error) { return []byte{0x48, 0xff, 0xc3}, nil } // inc %rbx
	first, second := m.layout(), m.layout()
	first.Before, second.Before = count, count
	second.Code, second.Control, second.Counters = codeAt+0x1000, stateAt+ControlSize, sharedAt+0x4000
	place := func(text string, l Layout) *Code {
		c, err := Compile(verified(t, text), Site{}, l)
		if err != nil {
			t.Fatal(err)
		}
		if !LinkFits(c.Link) || c.Body != 3 {
			t.Fatalf("body at %d, link at %d", c.Body, c.Link)
		}
		m.place(c, l, ModeEnforce)
		return c
	}
	b := place(atLeast("20"), second)
	a := place(atLeast("10"), first)
	link := first.Code.Add(int64(a.Link))
	run := func(arg uint64) (outcome int, rax, ahead uint64) {
		in := filled(8)
		in.GPR[amd64.RDI], in.GPR[amd64.RBX] = arg, 0
		m.poke64(address.Addr(in.GPR[amd64.RSP]), uint64(m.returned))
		outcome, out := m.call(first.Code, in)
		return outcome, out.GPR[amd64.RAX], out.GPR[amd64.RBX]
	}
	for _, c := range []struct {
		linked  bool
		arg     uint64
		outcome int
		rax     uint64
	}{
		{false, 5, hasReturned, 10}, {false, 15, hasPassed, 0}, {false, 25, hasPassed, 0},
		{true, 5, hasReturned, 10}, {true, 15, hasReturned, 20}, {true, 25, hasPassed, 0},
	} {
		to := address.Addr(0)
		if c.linked {
			to = second.Code.Add(int64(b.Body))
		}
		bytes, err := Link(link, to)
		if err != nil {
			t.Fatal(err)
		}
		m.write(link, protRead|protExec, bytes)
		outcome, rax, ahead := run(c.arg)
		if outcome != c.outcome || outcome == hasReturned && rax != c.rax || ahead != 1 {
			t.Errorf("linked %v, %d: outcome %d, rax %d, ran ahead %d times; want %+v", c.linked, c.arg, outcome, rax, ahead, c)
		}
	}
}

// A way back that is as long as it likes is not cut.
func TestEndOfBlock(t *testing.T) {
	l := Layout{Code: codeAt, Control: stateAt, Counters: sharedAt, Events: sharedAt + 0x1000, After: func(at address.Addr) ([]byte, error) {
		a := amd64.NewAsm(at)
		a.Nop(70)
		a.JmpTo(codeAt + codeLen)
		return a.Bytes()
	}}
	c, err := Compile(verified(t, "ldxdw %r2, [%r1+0]\njeq %r2, 0, +2\nmov %r0, 0\nexit\nmov %r0, 1\nexit"), Site{}, l)
	if err != nil {
		t.Fatal(err)
	}
	if c.End-c.Link != LinkSize+75 || c.Bytes[c.End-jmpSize] != jmpRel32 {
		t.Errorf("link at %d, end at %d: % x", c.Link, c.End, c.Bytes)
	}
}
