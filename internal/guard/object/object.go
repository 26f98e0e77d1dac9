package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

// MaxSize bounds an object file, in bytes.
const MaxSize = 1 << 20

// guardSection begins the name of a guard's section.
const guardSection = "pie "

// Error is an object file that is no prepatch.
type Error struct {
	File    string
	Msg     string
	Instead string // what to do; may be empty
	Err     error  // may be nil
}

func (e *Error) Error() string {
	s := e.File + ": " + e.Msg
	if e.Instead != "" {
		s += "; " + e.Instead
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether data is an ELF file.
func Is(data []byte) bool { return bytes.HasPrefix(data, []byte(elf.ELFMAG)) }

// Load reads a prepatch from an object file. Errors are *Error, or *source.Error
// for its directives.
func Load(name string, data []byte) (*compile.Prepatch, error) {
	if len(data) > MaxSize {
		return nil, &Error{File: name, Msg: fmt.Sprintf("larger than %d KiB", MaxSize>>10)}
	}
	lines, err := directives(name, data)
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, &Error{File: name, Msg: fmt.Sprintf("cannot be read as an object file of clang -target bpf: %v", err), Err: err}
	}
	src, err := parse(name, lines, spec)
	if err != nil {
		return nil, err
	}
	caps, err := caps(name, src)
	if err != nil {
		return nil, err
	}
	out := &compile.Prepatch{Prepatch: src, Hash: compile.Hash(map[string][]byte{name: data})}
	for _, g := range src.Guards {
		u, err := unit(name, spec, g)
		if err != nil {
			return nil, err
		}
		u.Caps = caps
		if caps&bpf.CapCall != 0 {
			u.State = bpf.StateFirst + bpf.InsideSize
		}
		out.Guards = append(out.Guards, compile.Guard{Guard: g, Unit: u})
	}
	return out, nil
}

// directives returns the lines of the section .pie.
func directives(name string, data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, &Error{File: name, Msg: fmt.Sprintf("no ELF file: %v", err), Err: err}
	}
	if f.Machine != elf.EM_BPF || f.Type != elf.ET_REL {
		return nil, &Error{File: name, Msg: fmt.Sprintf("%v for %v, not an object file for BPF", f.Type, f.Machine), Instead: "compile with clang -target bpf -c"}
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_COMPRESSED != 0 { // which could become any size
			return nil, &Error{File: name, Msg: fmt.Sprintf("its section %q is compressed", s.Name), Instead: "compile without -gz"}
		}
		if holdsAddresses(f, s) {
			return nil, &Error{File: name, Msg: "its constants hold addresses, as a table of strings or functions does; where they will be is not known",
				Instead: "declare an array of arrays, char names[3][8], or write a switch"}
		}
	}
	if err := misplaced(name, f); err != nil {
		return nil, err
	}
	s := f.Section(".pie")
	if s == nil {
		return nil, &Error{File: name, Msg: "no lines of a prepatch", Instead: `write PIE("id CVE-YYYY-NNNN"); of libpie.h`}
	}
	if s.Type == elf.SHT_NOBITS || s.Size > uint64(len(data)) {
		return nil, &Error{File: name, Msg: "its section .pie is damaged"}
	}
	text, err := s.Data()
	if err != nil {
		return nil, &Error{File: name, Msg: fmt.Sprintf("its section .pie: %v", err), Err: err}
	}
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == 0 })
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return nil, &Error{File: name, Msg: fmt.Sprintf("the line %q has a line break in it", line)}
		}
	}
	return lines, nil
}

// holdsAddresses reports whether s puts addresses into constants: a guard would
// find offsets there and take them for addresses of the target.
func holdsAddresses(f *elf.File, s *elf.Section) bool {
	if s.Type != elf.SHT_REL && s.Type != elf.SHT_RELA || int(s.Info) >= len(f.Sections) {
		return false
	}
	return strings.HasPrefix(f.Sections[s.Info].Name, ".rodata")
}

// parse gives the lines and the keys of each guard to package source, as the Go
// file that would say the same.
func parse(name string, lines []string, spec *ebpf.CollectionSpec) (*source.Prepatch, error) {
	var b strings.Builder
	b.WriteString("package prepatch\n")
	for _, line := range lines {
		fmt.Fprintf(&b, "\n//pie:%s\n", line)
	}
	var names []string
	for fn := range spec.Programs {
		names = append(names, fn)
	}
	slices.Sort(names)
	for _, fn := range names {
		section := spec.Programs[fn].SectionName
		keys, ok := strings.CutPrefix(section, guardSection)
		if !ok || strings.ContainsAny(keys, "\r\n") || !isIdentifier(fn) {
			return nil, &Error{File: name, Msg: fmt.Sprintf("the function %s in section %q is no guard", strconv.Quote(fn), section), Instead: `declare guards with PIE_GUARD("…"), and other functions static`}
		}
		fmt.Fprintf(&b, "\n//pie:guard %s\nfunc %s() {}\n", keys, fn)
	}
	// Positions are of that file; only its name means something to a reader.
	return source.Parse(path.Base(name), []byte(b.String()))
}

func isIdentifier(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// caps are the capabilities that a guard in C can use.
func caps(name string, p *source.Prepatch) (bpf.Caps, error) {
	var out bpf.Caps
	for _, c := range p.Caps {
		named := bpf.CapNamed(c)
		if named == 0 {
			return 0, &Error{File: name, Msg: fmt.Sprintf("a guard in C cannot have the capability %s", c), Instead: "write it in Go"}
		}
		out |= named
	}
	if p.Shared {
		return 0, &Error{File: name, Msg: "a guard in C has no state", Instead: "write it in Go"}
	}
	return out, nil
}

// unit makes the bytecode of one guard.
func unit(name string, spec *ebpf.CollectionSpec, g source.Guard) (*bpf.Unit, error) {
	bad := func(format string, args ...any) error {
		return &Error{File: name, Msg: g.Name + ": " + fmt.Sprintf(format, args...)}
	}
	u := &bpf.Unit{Name: g.Name}
	insns := slices.Clone(spec.Programs[g.Name].Instructions)
	rodata := map[string]int{} // where the content of a section is in u.Rodata
	pos := bpf.Pos{File: path.Base(name), Line: 1, Col: 1}
	for k, i := range insns {
		pos = position(i, pos)
		slots := 1
		if i.OpCode.IsDWordLoad() {
			slots = 2
		}
		for range slots {
			u.Pos = append(u.Pos, pos)
		}
		if !i.IsLoadFromMap() {
			if what := elsewhere(i); what != "" {
				return nil, bad("line %d: %s", pos.Line, what)
			}
			continue
		}
		load, err := address(u, spec, g, i, rodata)
		if err != nil {
			return nil, bad("line %d: %v", pos.Line, err)
		}
		insns[k] = load
	}
	var code bytes.Buffer
	if err := insns.Marshal(&code, binary.LittleEndian); err != nil {
		if errors.Is(err, asm.ErrUnsatisfiedProgramReference) {
			return nil, bad("calls a function that is not in the file: %v", err)
		}
		return nil, bad("%v", err)
	}
	var err error
	if u.Insns, err = bpf.Decode(code.Bytes()); err != nil {
		return nil, bad("%v", err)
	}
	if len(u.Insns) != len(u.Pos) {
		return nil, bad("%d instruction slots, of which %d are known", len(u.Insns), len(u.Pos))
	}
	return u, appendActions(u, g)
}

// elsewhere says what i needs that a guard has not; empty for nothing.
func elsewhere(i asm.Instruction) string {
	const instead = "call functions of your own by their names, in a switch, and those of the program by pie_invoke"
	switch {
	case uint8(i.OpCode) == bpf.OpCALLX:
		return "calls through a pointer, and where that leads is known when it runs only; " + instead
	case i.OpCode.IsDWordLoad() && i.IsLoadOfFunctionPointer():
		return "takes the address of a function, which a guard cannot call; " + instead
	case i.OpCode.IsDWordLoad() && i.Src != 0:
		return "refers to something that a guard has not"
	}
	return ""
}

// position is the line of C that an instruction comes from, where the file was
// compiled with -g: that of the last one before it that begins a line.
func position(i asm.Instruction, last bpf.Pos) bpf.Pos {
	if line, ok := i.Source().(*btf.Line); ok && line != nil {
		return bpf.Pos{File: path.Base(line.FileName()), Line: int(line.LineNumber()), Col: int(line.LineColumn())}
	}
	return last
}

// address is the load of an address that i stands for: of a constant, or of a function
// of the target.
func address(u *bpf.Unit, spec *ebpf.CollectionSpec, g source.Guard, i asm.Instruction, placed map[string]int) (asm.Instruction, error) {
	load := asm.Instruction{OpCode: i.OpCode, Dst: i.Dst, Src: bpf.PseudoRodata}
	var at int
	var err error
	if i.Reference() == functionSection {
		load.Src = bpf.PseudoSymbol
		at, err = symbol(u, spec, g, i)
	} else {
		at, err = constants(u, spec, i, placed)
	}
	load.Constant = int64(at)
	return load.WithSymbol(i.Symbol()), err
}

// constants returns where in u.Rodata a load's constant is, and puts its section
// there first.
func constants(u *bpf.Unit, spec *ebpf.CollectionSpec, i asm.Instruction, placed map[string]int) (int, error) {
	section := i.Reference()
	m := spec.Maps[section]
	if m == nil || !strings.HasPrefix(section, ".rodata") || len(m.Contents) != 1 {
		return 0, fmt.Errorf("uses the variable in section %q: a guard has constants only, declare it const", section)
	}
	content, ok := m.Contents[0].Value.([]byte)
	if !ok {
		return 0, fmt.Errorf("the constants in section %q cannot be read", section)
	}
	base, ok := placed[section]
	if !ok {
		for len(u.Rodata)%8 != 0 {
			u.Rodata = append(u.Rodata, 0)
		}
		base = len(u.Rodata)
		placed[section] = base
		u.Rodata = append(u.Rodata, content...)
	}
	offset := int64(uint64(i.Constant) >> 32)
	if offset < 0 || offset > int64(len(content)) {
		return 0, fmt.Errorf("refers to offset %d of section %q, which has %d bytes", offset, section, len(content))
	}
	return base + int(offset), nil
}
