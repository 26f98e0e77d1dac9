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
	for range maxVersions {
		var def [20]byte // version, flags, ndx, cnt u16; hash, aux, next u32
		if err := f.ReadVaddr(def[:], at); err != nil {
			return err
		}
		var aux [8]byte // name, next u32
		if err := f.ReadVaddr(aux[:], at+address.Vaddr(le.Uint32(def[12:]))); err != nil {
			return err
		}
		names[le.Uint16(def[4:])] = stringAt(d.strings, uint64(le.Uint32(aux[:])))
		next := le.Uint32(def[16:])
		if next == 0 {
			return nil
		}
		at += address.Vaddr(next)
	}
	return malformed("DT_VERDEF", uint64(at), "more than %d versions", maxVersions)
}

// versionNeeds reads the chain of Verneed, each with a chain of Vernaux: the
// versions the file wants of other files.
func (f *File) versionNeeds(d *dynamic, at address.Vaddr, names map[uint16]string) error {
	budget := maxVersions
	for {
		var need [16]byte // version, cnt u16; file, aux, next u32
		if err := f.ReadVaddr(need[:], at); err != nil {
			return err
		}
		auxAt := at + address.Vaddr(le.Uint32(need[8:]))
		for range le.Uint16(need[2:]) {
			if budget--; budget < 0 {
				return malformed("DT_VERNEED", uint64(at), "more than %d versions", maxVersions)
			}
			var aux [16]byte // hash u32; flags, other u16; name, next u32
			if err := f.ReadVaddr(aux[:], auxAt); err != nil {
				return err
			}
			names[le.Uint16(aux[6:])&^verHidden] = stringAt(d.strings, uint64(le.Uint32(aux[8:])))
			auxAt += address.Vaddr(le.Uint32(aux[12:]))
		}
		next := le.Uint32(need[12:])
		if budget--; next == 0 {
			return nil
		}
		if budget < 0 {
			return malformed("DT_VERNEED", uint64(at), "more than %d versions", maxVersions)
		}
		at += address.Vaddr(next)
	}
}
