package tracee

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// gadgets are addresses of instructions the target already has, of which a
// remote system call is made: nothing is written to its code. One of popRaxRet and
// sigreturn is enough: the C library has both, its dynamic linker the second alone,
// which is all there is before a program's libraries are mapped.
type gadgets struct {
	syscallRet address.Addr // syscall; ret
	popRaxRet  address.Addr // pop rax; ret
	sigreturn  address.Addr // mov rax, 15; syscall: where signal handlers return to
}

var (
	codeSyscallRet = []byte{0x0f, 0x05, 0xc3}
	codePopRaxRet  = []byte{0x58, 0xc3}
	codeSigreturn  = []byte{0x48, 0xc7, 0xc0, unix.SYS_RT_SIGRETURN, 0, 0, 0, 0x0f, 0x05}
)

// ret is the address of a 'ret'.
func (g gadgets) ret() address.Addr { return g.syscallRet.Add(syscallInsnSize) }

// healing is where the frame's rt_sigreturn(2) returns to, as the kernel sees it.
func (g gadgets) healing() address.Addr {
	if g.popRaxRet == 0 {
		return g.sigreturn.Add(int64(len(codeSigreturn)))
	}
	return g.syscallRet.Add(syscallInsnSize)
}

// gadget is one of them, with its bytes.
type gadget struct {
	at   address.Addr
	code []byte
}

// used are those that a call is made of.
func (g gadgets) used() [2]gadget {
	if g.popRaxRet == 0 {
		return [2]gadget{{g.syscallRet, codeSyscallRet}, {g.sigreturn, codeSigreturn}}
	}
	return [2]gadget{{g.syscallRet, codeSyscallRet}, {g.popRaxRet, codePopRaxRet}}
}

// knownGadgets returns what an earlier search has found, if it still lies in
// executable memory; enter looks at the bytes themselves.
func (p *Process) knownGadgets(maps []proc.Mapping) (gadgets, error) {
	p.search.Lock()
	defer p.search.Unlock()
	if p.gadgets.lieIn(maps) {
		return p.gadgets, nil
	}
	if p.gadgets = p.host.gadgets.in(maps); p.gadgets.complete() {
		return p.gadgets, nil
	}
	var err error
	if p.gadgets, err = p.findGadgets(maps); err == nil {
		p.host.gadgets.note(maps, p.gadgets)
	}
	return p.gadgets, err
}

// CanCall tells whether system calls can be made in the process as it is mapped now: before
// its dynamic linker has run, its code may not have what that takes.
func (p *Process) CanCall() bool {
	maps, err := p.Maps()
	if err != nil {
		return false
	}
	_, err = p.knownGadgets(maps)
	return err == nil
}

func (p *Process) forgetGadgets() {
	p.search.Lock()
	defer p.search.Unlock()
	p.gadgets = gadgets{}
	p.host.gadgets.forget()
}

func (g gadgets) complete() bool {
	return g.syscallRet != 0 && (g.popRaxRet != 0 || g.sigreturn != 0)
}

// lieIn tells whether they are complete, and in code of a process.
func (g gadgets) lieIn(maps []proc.Mapping) bool {
	used := g.used()
	return g.complete() && isCode(maps, used[0].at) && isCode(maps, used[1].at)
}

func isCode(maps []proc.Mapping, at address.Addr) bool {
	for _, m := range maps {
		if m.Contains(at) {
			return isPrivateCode(m)
		}
	}
	return false
}

// isPrivateCode tells whether m holds code that no other process can change.
func isPrivateCode(m proc.Mapping) bool {
	const need, refuse = proc.Read | proc.Exec, proc.Write | proc.Shared
	return m.Perms&need == need && m.Perms&refuse == 0 && m.HasFile()
}

// maxGadgetScan bounds how much code is looked through, in bytes.
const maxGadgetScan = 256 << 20

// findGadgets looks through the executable memory, small mappings first: the
// C library is found before a browser's text. Memory, not files: that is what
// runs.
func (p *Process) findGadgets(maps []proc.Mapping) (gadgets, error) {
	var code []proc.Mapping
	for _, m := range maps {
		if isPrivateCode(m) {
			code = append(code, m)
		}
	}
	slices.SortFunc(code, func(a, b proc.Mapping) int { return int(min(a.Size(), 1<<31)) - int(min(b.Size(), 1<<31)) })
	var g gadgets
	buf := make([]byte, 256<<10)
	for left, i := uint64(maxGadgetScan), 0; i < len(code) && code[i].Size() <= left; i++ {
		left -= code[i].Size()
		p.scan(code[i], buf, &g)
		if g.complete() {
			return g, nil
		}
	}
	return g, fmt.Errorf("pid %d: its code has no 'syscall; ret', or neither 'pop rax; ret' nor rt_sigreturn(2): %w", p.Pid(), ErrNoRemoteSyscall)
}

// scan looks through one mapping; chunks overlap by what a gadget may span.
func (p *Process) scan(m proc.Mapping, buf []byte, g *gadgets) {
	overlap := len(codeSigreturn) - 1
	for at := m.Start; at.Add(int64(overlap)) < m.End; at = at.Add(int64(len(buf) - overlap)) {
		n := min(uint64(len(buf)), uint64(m.End-at))
		got, err := p.ReadAt(buf[:n], at)
		if err != nil && got == 0 {
			return
		}
		note(&g.syscallRet, buf[:got], codeSyscallRet, at)
		note(&g.popRaxRet, buf[:got], codePopRaxRet, at)
		note(&g.sigreturn, buf[:got], codeSigreturn, at)
		if g.complete() {
			return
		}
	}
}

func note(found *address.Addr, code, want []byte, at address.Addr) {
	if i := bytes.Index(code, want); i >= 0 && *found == 0 {
		*found = at.Add(int64(i))
	}
}
