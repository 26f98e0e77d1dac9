package behaviour

import (
	"math"
	"strings"

	"github.com/patch-integration-engine/pie/internal/isa/amd64"
)

// call goes to another function, by a call or, at the end of one, a jump.
func (m *run) call(to uint64, jump bool) {
	name, imported := m.imports[to]
	inside := !imported && m.inImage(to)
	if inside {
		own := uint64(0)
		if name, own = m.p.Stub(to - m.bias); own != 0 {
			to = own + m.bias
		}
	}
	if inside && name == "" && len(m.p.Code(to-m.bias, 1)) > 0 {
		c := m.p.Callee(to - m.bias)
		if c.Enter || m.Deep || m.Also != 0 && to-m.bias == m.Also {
			m.goInto(to, jump)
			return
		}
		m.internal(c)
	} else {
		m.external(name, to)
	}
	if jump && !m.ended {
		m.leave()
	}
}

// goInto enters a function.
func (m *run) goInto(to uint64, jump bool) {
	if !jump {
		if m.depth++; m.depth > maxDepth {
			m.stop()
			return
		}
		m.push(m.rip)
	}
	m.rip = to
}

// leave returns.
func (m *run) leave() {
	to := m.pop()
	if to == returnAt {
		m.see('r', m.number(m.regs[amd64.RAX]), 0)
		m.stop()
		return
	}
	if m.depth--; !m.inImage(to) {
		m.stop()
	}
	m.rip = to
}

// jump goes on elsewhere.
func (m *run) jump(to uint64) {
	if m.p.Same(m.rip-1-m.bias, to-m.bias) {
		m.rip = to
		return
	}
	m.call(to, true)
}

// plain is an import's name without its version, and without what headers make of it.
func plain(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if s, ok := strings.CutSuffix(name, "_chk"); ok {
		name = strings.TrimPrefix(s, "__")
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, "__isoc99_"), "__isoc23_")
}

// NoReturn tells whether an import never returns.
func NoReturn(name string) bool {
	switch plain(name) {
	case "abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail", "__stack_chk_fail", "__fortify_fail", "longjmp", "_longjmp", "siglongjmp",
		"pthread_exit", "__cxa_throw", "__cxa_rethrow", "__cxa_throw_bad_array_new_length", "_Unwind_Resume":
		return true
	}
	return strings.HasPrefix(name, "_ZSt") && strings.Contains(name, "__throw_")
}

// external is a call of an import, or of what is not the program's.
func (m *run) external(name string, to uint64) {
	name = plain(name)
	if m.writtenOut(name) {
		m.forget()
		return
	}
	m.flush()
	id := hashText(name)
	if name == "" {
		id = m.number(to) + 0x1ca11
	}
	n := m.calls[id]
	m.calls[id]++
	m.see('C', id, n)
	for i := range m.passed(name) {
		m.see('A', id+uint64(i)<<56, m.number(m.regs[argumentRegisters[i]]))
	}
	if NoReturn(name) {
		m.stop()
		return
	}
	m.result(id, n)
	if strings.HasSuffix(name, "setjmp") {
		m.regs[amd64.RAX] = 0
	}
}

// internal is a call of a function of the program that is not entered.
func (m *run) internal(c Callee) {
	m.flush()
	id := uint64(0x1a7e)
	for i, r := range argumentRegisters {
		if c.Reads>>i&1 != 0 {
			id = mix(id ^ m.number(m.regs[r]) + uint64(i)<<40)
		}
	}
	n := m.calls[id]
	m.calls[id]++
	m.see('I', id, n)
	if c.NoReturn {
		m.stop()
		return
	}
	m.result(id, n)
}

// result gives what the n-th call of something returns.
func (m *run) result(id, n uint64) {
	m.forget()
	key := id + n*0x51
	h := mix(m.seed ^ key)
	m.regs[amd64.RAX] = resultShape(m.kind, h)
	if v, ok := m.setting(Result, key); ok {
		m.regs[amd64.RAX] = v
	}
	m.origins[amd64.RAX] = origin{Place: Place{Result, key, 8}}
	m.xmm[0] = vec{math.Float64bits(float64(h&0xff) / 4)}
}

// forget clears what a call may change (psABI, 3.2.1).
func (m *run) forget() {
	for _, r := range []amd64.Reg{amd64.RCX, amd64.RDX, amd64.RSI, amd64.RDI, amd64.R8, amd64.R9, amd64.R10, amd64.R11} {
		m.regs[r], m.origins[r] = 0, origin{}
	}
	m.origins[amd64.RAX] = origin{}
	m.written = 0
}

// passed is how many arguments an import is given: as many as it takes, where that is known,
// or else up to the last that was written since the call before.
func (m *run) passed(name string) int {
	if n, ok := arity(name); ok {
		return n
	}
	for n := len(argumentRegisters); n > 0; n-- {
		if m.written>>(n-1)&1 != 0 {
			return n
		}
	}
	return 0
}

// arity is how many integer arguments common functions of the C library take.
func arity(name string) (int, bool) {
	switch name {
	case "abort", "__errno_location", "__ctype_b_loc", "__ctype_tolower_loc", "__ctype_toupper_loc", "floor", "ceil", "sqrt", "pow", "fmod", "__stack_chk_fail":
		return 0, true
	case "malloc", "free", "strlen", "strdup", "close", "fclose", "fgetc", "getc", "exit", "_setjmp", "setjmp", "pthread_mutex_lock", "pthread_mutex_unlock", "getenv",
		"toupper", "tolower", "strerror", "time", "ferror", "fflush", "unlink", "atoi", "puts", "putchar":
		return 1, true
	case "calloc", "realloc", "strcmp", "strcpy", "strchr", "strrchr", "strcat", "strstr", "strcasecmp", "strtod", "fopen", "fputs", "fputc", "putc", "longjmp":
		return 2, true
	case "memcpy", "memmove", "memset", "memcmp", "memchr", "strncmp", "strncpy", "read", "write", "strtol", "strtoul", "fgets", "socket":
		return 3, true
	case "fread", "fwrite", "qsort":
		return 4, true
	}
	return 0, false
}
