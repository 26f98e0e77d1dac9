package locate

import (
	"debug/elf"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/find/binfile"
)

// resolveIndirect finds which implementation an IFUNC has in this process. The
// resolver has run already: its answer lies in the GOT slots of whoever calls
// the function. Slots that the defining image fills by IRELATIVE relocations
// name the resolver itself; slots of other images name the symbol. A slot that
// does not point into the defining image is not bound yet. All that are bound
// must agree.
func (s *Set) resolveIndirect(im *Image, c candidate) (candidate, error) {
	var target address.Addr
	for _, slot := range s.slotsOf(im, c) {
		var word [1]uint64
		if err := s.words(word[:], slot); err != nil {
			continue
		}
		a := address.Addr(word[0])
		if !im.Contains(a) || !im.File.IsCode(a.Vaddr(im.Bias)) || a.Vaddr(im.Bias) == c.vaddr {
			continue
		}
		if target != 0 && target != a {
			return c, &Indirect{c.name, im.Path, fmt.Sprintf("its callers use different implementations, at %v and %v", target.Vaddr(im.Bias), a.Vaddr(im.Bias))}
		}
		target = a
	}
	if target == 0 {
		return c, &Indirect{c.name, im.Path, "no caller has bound it yet, so which implementation this process uses is not known"}
	}
	resolver := c.vaddr
	c.vaddr, c.size, c.indirect = target.Vaddr(im.Bias), 0, false
	c.how += fmt.Sprintf(", an IFUNC (resolver at %v) bound to %v in this process", resolver, c.vaddr)
	return c, nil
}

// slotsOf lists the GOT slots that hold the address of an IFUNC's choice.
func (s *Set) slotsOf(im *Image, c candidate) []address.Addr {
	var out []address.Addr
	for _, user := range s.Images {
		relocs, err := user.File.Relocs()
		if err != nil {
			continue
		}
		syms, _ := user.File.DynSymbols() // a static program has none
		for _, r := range relocs {
			if user.File == im.File && r.Type == elf.R_X86_64_IRELATIVE && address.Vaddr(r.Addend) == c.vaddr {
				out = append(out, r.At.Addr(user.Bias))
			}
			if (r.Type == elf.R_X86_64_JMP_SLOT || r.Type == elf.R_X86_64_GLOB_DAT) && names(syms, r.Sym, c) {
				out = append(out, r.At.Addr(user.Bias))
			}
		}
	}
	return out
}

// names tells whether entry i of a symbol table is the candidate's symbol, in
// its version.
func names(syms []binfile.Symbol, i uint32, c candidate) bool {
	return uint64(i) < uint64(len(syms)) && syms[i].Name == c.name && (syms[i].Version == "" || c.version == "" || syms[i].Version == c.version)
}
