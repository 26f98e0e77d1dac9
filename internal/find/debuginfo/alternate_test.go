package debuginfo

import (
	"debug/dwarf"
	"encoding/binary"
	"errors"
	"testing"
)

// shortened is DWARF 4 of one function at 0x1000 with one parameter, as dwz leaves it:
// the parameter's type, or its name, is in a second file.
func shortened(t *testing.T, parameter []byte, value []byte) *Info {
	t.Helper()
	abbrev := []byte{
		1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0, 0, // compile unit: low_pc addr, high_pc data4
		2, 0x2e, 1, 0x11, 0x01, 0x12, 0x06, 0, 0, // subprogram
		3, 0x05, 0, // formal parameter
	}
	abbrev = append(append(abbrev, parameter...), 0, 0, 0)
	place := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, 0x1000), 16)
	unit := []byte{4, 0, 0, 0, 0, 0, 8} // version 4, abbreviations at 0, pointers of 8 bytes
	unit = append(append(unit, 1), place...)
	unit = append(append(unit, 2), place...)
	unit = append(append(append(unit, 3), value...), 0, 0)
	info := append(binary.LittleEndian.AppendUint32(nil, uint32(len(unit))), unit...)
	data, err := dwarf.New(abbrev, nil, nil, info, nil, nil, nil, []byte("\x00int\x00"))
	if err != nil {
		t.Fatal(err)
	}
	return &Info{data: data, left: maxEntries}
}

// What is in dwz's second file is refused, and not taken for a parameter without a type or
// a name.
func TestSecondFileIsRefused(t *testing.T) {
	const name, typ = 0x03, 0x49
	alternate := []byte{0, 1, 0, 0} // an offset in the second file
	for what, i := range map[string]*Info{
		"type": shortened(t, []byte{name, 0x08, typ, 0xa0, 0x3e}, append([]byte("n\x00"), alternate...)), // DW_FORM_string, DW_FORM_GNU_ref_alt
		"name": shortened(t, []byte{name, 0xa1, 0x3e}, alternate),                                        // DW_FORM_GNU_strp_alt
	} {
		if p, err := i.Params(0x1000); !errors.Is(err, ErrElsewhere) {
			t.Errorf("%s: got %v, %v; want %v", what, p, err, ErrElsewhere)
		}
	}
	whole := shortened(t, []byte{name, 0x08}, []byte("n\x00"))
	if p, err := whole.Params(0x1000); err != nil || len(p) != 1 || p[0].Name != "n" || p[0].Type.Kind != Void {
		t.Errorf("with nothing elsewhere: %v, %v", p, err)
	}
}
