package pie

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/patch-integration-engine/pie/internal/guard/compile"
	"github.com/patch-integration-engine/pie/internal/guard/object"
	"github.com/patch-integration-engine/pie/internal/guard/source"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
)

// Prepatch is a prepatch that was compiled and proven safe. Only Load makes one.
type Prepatch struct {
	ID      string
	Fixed   string    // the first version with the vendor's fix, as its directive says
	Expires time.Time // zero: never
	Refs    []string
	Guards  []GuardInfo
	Caps    []string // what it may do beyond looking, rejecting and noting: rewrite, write, call, exit, shared
	State   int      // bytes of state in each process

	compiled     *compile.Prepatch
	programs     []*verify.Program           // by guard
	fingerprints map[string]*fingerprintFile // by the name guards give them
}

// GuardInfo is what the operator is shown of one guard.
type GuardInfo struct {
	Name      string        `json:"name"`
	Where     string        `json:"where"` // "strdup in libc.so.6, in iperf3"
	Exe       string        `json:"exe,omitempty"`
	Lib       string        `json:"lib,omitempty"`
	Func      string        `json:"func"`
	FailsOpen []string      `json:"fails_open,omitempty"` // one sentence each
	Insns     int           `json:"instructions"`
	Code      int           `json:"code_bytes,omitempty"`      // of machine code, at most; 0 until Measure
	Saved     int           `json:"saved_registers,omitempty"` // registers that have to be saved, at most
	Loads     Loads         `json:"loads"`
	Writes    int           `json:"writes,omitempty"`  // places that write the program's memory
	Calls     []string      `json:"calls,omitempty"`   // functions of the program that it may call
	Helpers   []string      `json:"helpers,omitempty"` // that it calls: strlen, count …
	Caps      []string      `json:"capabilities,omitempty"`
	Reads     int           `json:"guarded_reads"` // reads that may meet unreadable memory
	Stack     int           `json:"stack_bytes"`
	Worst     time.Duration `json:"worst_ns"`
	Limits    []Limit       `json:"limits,omitempty"` // how far it looks before it has run too long
}

// Load compiles and verifies the Go files of one prepatch, or reads the object
// file of one written in C, and takes the
// fingerprints (.pf) among its files, which guards name without a folder. An error
// is a *Refusal with every complaint on a line of its own, as file:line:col.
func Load(files map[string][]byte) (*Prepatch, error) {
	files, fingerprints := sortFiles(files)
	decoded := make(chan *fingerprintFile, len(fingerprints))
	for name, data := range fingerprints {
		go func() { decoded <- decodeFingerprint(name, data) }() // takes as long as compiling does
	}
	p, err := loadSource(files)
	if err != nil {
		return nil, err
	}
	for range fingerprints {
		f := <-decoded
		if f.err != nil {
			return nil, f.err
		}
		p.useFingerprint(f)
	}
	return p, nil
}

// sortFiles parts fingerprints, by name without folder, from source.
func sortFiles(files map[string][]byte) (source, fingerprints map[string][]byte) {
	source, fingerprints = map[string][]byte{}, map[string][]byte{}
	for name, data := range files {
		if path.Ext(name) == ".pf" {
			fingerprints[path.Base(name)] = data
		} else {
			source[name] = data
		}
	}
	return source, fingerprints
}

// bytecode compiles Go files, or reads the object file that clang made of C.
func bytecode(files map[string][]byte) (*compile.Prepatch, error) {
	for name, data := range files {
		if !object.Is(data) && path.Ext(name) != ".o" {
			continue
		}
		if len(files) > 1 {
			return nil, refuse(CodeCompile, nil, "name one object file alone", "%s is an object file, and not the only file of the prepatch", name)
		}
		c, err := object.Load(name, data)
		if err != nil {
			return nil, refuseEach(CodeCompile, err, "docs/libpie.md tells how a guard in C is written and compiled")
		}
		return c, nil
	}
	src, err := source.ParseFiles(files)
	if err != nil {
		return nil, refuseEach(CodeCompile, err, "correct the directives (docs/libpie.md explains them)")
	}
	c, err := compile.Compile(src, files)
	if err != nil {
		return nil, refuseEach(CodeCompile, err, "correct these lines; pie check shows what is left")
	}
	return c, nil
}

func loadSource(files map[string][]byte) (*Prepatch, error) {
	c, err := bytecode(files)
	if err != nil {
		return nil, err
	}
	p := &Prepatch{ID: c.ID, Fixed: c.Fixed, Expires: c.Expires, Refs: c.Refs, compiled: c}
	var errs []error
	for _, g := range c.Guards {
		prog, err := verify.Verify(g.Unit)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.programs = append(p.programs, prog)
		p.Guards = append(p.Guards, describe(g, prog, c.Caps))
	}
	if p.Caps = slices.Clone(c.Caps); c.Shared {
		p.Caps = append(p.Caps, "shared")
	}
	for _, prog := range p.programs {
		p.State = max(p.State, int(prog.Unit().State))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, refuseEach(CodeVerify, err, "make the guard check what it uses; docs/libpie.md tells what can be proven")
	}
	return p, nil
}

// HashOf is the Hash of the prepatch with these files, without compiling them.
func HashOf(files map[string][]byte) [sha256.Size]byte {
	source, _ := sortFiles(files)
	return compile.Hash(source)
}

// Hash identifies the content of the prepatch.
func (p *Prepatch) Hash() [sha256.Size]byte { return p.compiled.Hash }

// MarshalJSON gives what pie check --json prints.
func (p *Prepatch) MarshalJSON() ([]byte, error) {
	h := p.Hash()
	var expires string
	if !p.Expires.IsZero() {
		expires = p.Expires.Format(time.DateOnly)
	}
	return json.Marshal(struct {
		ID      string      `json:"id"`
		Hash    string      `json:"hash"`
		Fixed   string      `json:"fixed,omitempty"`
		Expires string      `json:"expires,omitempty"`
		Refs    []string    `json:"refs,omitempty"`
		Caps    []string    `json:"capabilities,omitempty"`
		Records Evidence    `json:"evidence"`
		State   int         `json:"state_bytes,omitempty"`
		Guards  []GuardInfo `json:"guards"`
	}{p.ID, hex.EncodeToString(h[:]), p.Fixed, expires, p.Refs, p.Caps, p.Evidence(), p.State, p.Guards})
}

// describe tells what a guard costs and where it fails open. caps are those of its
// prepatch.
func describe(g compile.Guard, prog *verify.Program, caps []string) GuardInfo {
	cost := prog.Cost()
	info := GuardInfo{
		Name: g.Name, Exe: g.Exe, Lib: g.Lib, Func: g.Func, Where: where(g.Guard),
		Insns: cost.Insns, Stack: prog.Stack(), Worst: time.Duration(cost.Ns),
		Limits: limitsOf(g, prog),
		Loads:  loadsOf(cost), Writes: cost.Writes, Calls: prog.Calls(), Helpers: helpersOf(prog), Caps: caps,
	}
	unit := prog.Unit()
	stops := false // a Go panic, or a length that is out of range
	fuelled := cost.Helpers > 0
	for i := range unit.Insns {
		if !prog.Reachable(i) {
			continue
		}
		if prog.FaultPoint(i) {
			info.Reads++
		}
		fuelled = fuelled || prog.Fuel(i) > 0
		if t, ok := unit.Insns[i].Target(i); ok && t == unit.OnFault {
			stops = true
		}
	}
	if g.OnFault.Pass && (info.Reads > 0 || stops) {
		info.FailsOpen = append(info.FailsOpen, "fails open if the guard cannot read what the call points to (onfault=pass)")
	}
	if g.OnFuel.Pass && fuelled {
		info.FailsOpen = append(info.FailsOpen, "fails open if the guard runs too long, which padded input can bring about (onfuel=pass)")
	}
	return info
}

// where says in words which function a guard stands in front of.
func where(g source.Guard) string {
	var b strings.Builder
	b.WriteString(g.Func)
	switch {
	case g.Lib != "" && g.Exe != "":
		fmt.Fprintf(&b, " in %s, in %s", g.Lib, g.Exe)
	case g.Lib != "":
		fmt.Fprintf(&b, " in %s", g.Lib)
	case g.Exe != "":
		fmt.Fprintf(&b, " in %s", g.Exe)
	default:
		b.WriteString(" in any program that has it")
	}
	return b.String()
}

// expired refuses a prepatch past its day.
func (p *Prepatch) expired() error {
	if p.Expires.IsZero() || time.Now().Before(p.Expires) {
		return nil
	}
	return refuse(CodeExpired, nil, "look for a newer prepatch or the vendor's fix, then correct //pie:expires", "%s expired on %s", p.ID, p.Expires.Format(time.DateOnly))
}

// guarded are the functions the prepatch has guards for.
func (p *Prepatch) guarded() map[string]bool {
	names := map[string]bool{}
	for _, g := range p.Guards {
		names[g.Func] = true
	}
	return names
}
