package pie

import (
	"debug/elf"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/locate"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// asksThread reports whether a guard asks about the thread that it runs on.
func asksThread(prog *verify.Program) bool {
	for i, in := range prog.Unit().Insns {
		if h := bpf.Helper(in.Imm); prog.Reachable(i) && in.IsHelperCall() && (h == bpf.HelperStackUsed || h == bpf.HelperThread || h == bpf.HelperInvoke) {
			return true
		}
	}
	return false
}

// stackEnd is where the main thread's stack ends; 0 where the kernel does not say.
func (r *resolved) stackEnd() (address.Addr, error) {
	maps, err := r.read.Maps()
	if err != nil {
		return 0, err
	}
	for _, m := range maps {
		if m.Path == "[stack]" {
			return m.End, nil
		}
	}
	return 0, nil
}

// hasThreadPointer reports whether fs:0 holds a thread pointer in every thread of
// the program: a dynamic linker, or a C library that the program has in it and
// whose thread-local variables it names, sets it up before anything else runs.
func hasThreadPointer(exe *locate.Image) bool {
	for _, s := range exe.File.Segments {
		if s.Type == elf.PT_INTERP || s.Type == elf.PT_TLS {
			return true
		}
	}
	return false
}
