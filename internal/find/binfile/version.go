package binfile

import (
	"debug/elf"

	"github.com/patch-integration-engine/pie/internal/address"
)

// maxVersions bounds the entries of a version chain.
const maxVersions = 1 << 13

// verHidden marks name@VERSION in a version index; without it the version is
// the default one (LSB, symbol versioning).
const verHidden = 0x8000

// setVersions names the version of each symbol of DT_SYMTAB, where the file
// has DT_VERSYM.
func (f *File) setVersions(d *dynamic, syms []Symbol) error {
	at, ok := d.tag[elf.DT_VERSYM]
	if !ok {
		return nil
	}
	index, err := f.segmentBytes("DT_VERSYM", address.Vaddr(at), uint64(len(syms))*2)
	if err != nil {
		return err
	}
	names := map[uint16]string{}
	if at, ok := d.tag[elf.DT_VERDEF]; ok {
		if err := f.versionDefs(d, address.Vaddr(at), names); err != nil {
			return err
		}
	}
	if at, ok := d.tag[elf.DT_VERNEED]; ok {
		if err := f.versionNeeds(d, address.Vaddr(at), names); err != nil {
			return err
		}
	}
	for i := range syms {
		if len(index) < 2*i+2 {
			break
		}
		v := le.Uint16(index[2*i:])
		if v&^verHidden < 2 { // local, or global without a version
			continue
		}
		syms[i].Version = names[v&^verHidden]
		syms[i].Default = v&verHidden == 0
	}
	return nil
}

// versionDefs reads the chain of Verdef: the versions the file defines.
func (f *File) versionDefs(d *dynamic, at address.Vaddr, names map[uint16]string) error {
	c, err := f.versionChain("DT_VERDEF", at)
	if err != nil {
		return err
	}
	for off := uint64(0); ; {
		def := c.at(off, 20)                            // version, flags, ndx, cnt u16; hash, aux, next u32
		aux := c.at(off+uint64(le.Uint32(def[12:])), 8) // name, next u32
		if c.bad != nil {
			return c.bad
		}
		names[le.Uint16(def[4:])] = stringAt(d.strings, uint64(le.Uint32(aux)))
		next := le.Uint32(def[16:])
		if next == 0 {
			return nil
		}
		off += uint64(next)
	}
}

// versionNeeds reads the chain of Verneed, each with a chain of Vernaux: the
// versions the file wants of other files.
func (f *File) versionNeeds(d *dynamic, at address.Vaddr, names map[uint16]string) error {
	c, err := f.versionChain("DT_VERNEED", at)
	if err != nil {
		return err
	}
	for off := uint64(0); ; {
		need := c.at(off, 16) // version, cnt u16; file, aux, next u32
		auxOff := off + uint64(le.Uint32(need[8:]))
		for range le.Uint16(need[2:]) {
			aux := c.at(auxOff, 16) // hash u32; flags, other u16; name, next u32
			if c.bad != nil {
				return c.bad
			}
			names[le.Uint16(aux[6:])&^verHidden] = stringAt(d.strings, uint64(le.Uint32(aux[8:])))
			auxOff += uint64(le.Uint32(aux[12:]))
		}
		next := le.Uint32(need[12:])
		if c.bad != nil || next == 0 {
			return c.bad
		}
		off += uint64(next)
	}
}

// versionChain is the memory a chain of version records lies in.
type versionChain struct {
	what string
	b    []byte
	left int // records that may still be read
	bad  error
}

// maxChain bounds a chain, in bytes.
const maxChain = 1 << 20

func (f *File) versionChain(what string, at address.Vaddr) (*versionChain, error) {
	b, err := f.segmentBytes(what, at, maxChain)
	return &versionChain{what: what, b: b, left: maxVersions}, err
}

// at returns the n bytes at off; after the first error, zeros.
func (c *versionChain) at(off, n uint64) []byte {
	c.left--
	if c.bad == nil && (c.left < 0 || off > uint64(len(c.b)) || n > uint64(len(c.b))-off) {
		c.bad = malformed(c.what, off, "a record is outside, or there are more than %d", maxVersions)
	}
	if c.bad != nil {
		return make([]byte, n)
	}
	return c.b[off : off+n]
}
