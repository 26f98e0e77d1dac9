package amd64

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// unhex reads bytes as a disassembly shows them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		code string
		len  int
		flow Flow
		text string
	}{
		{"f3 0f 1e fa 55", 4, FlowNext, "endbr64"}, // x86asm: 1 byte
		{"c5 f8 77 c3", 3, FlowNext, ""},           // vzeroupper; x86asm: 4 bytes
		{"c5 fc 77 c3", 3, FlowNext, ""},           // vzeroall
		{"66 0f 38 f6 c1", 5, FlowNext, ""},        // adcx %ecx,%eax
		{"f3 48 0f 38 f6 c1", 6, FlowNext, ""},     // adox %rcx,%rax
		{"0f 01 ee", 3, FlowNext, ""},              // rdpkru
		{"8f e9 78 81 c1", 5, FlowNext, ""},        // XOP vfrczpd %xmm1,%xmm0
		{"8f c0", 2, FlowNext, "pop %rax"},         // not XOP
		{"62 f1 fe 48 6f 07", 6, FlowNext, ""},     // vmovdqu64 (%rdi),%zmm0
		{"62 f3 7d 48 0f c1 03", 7, FlowNext, ""},  // EVEX with immediate
		{"c4 e2 f3 f6 c2", 5, FlowNext, ""},        // mulx %rdx,%rcx,%rax
		{"3e ff e0", 3, FlowIndirectJump, ""},      // notrack jmp
		{"3e ff 24 c5 00 10 40 00", 8, FlowIndirectJump, ""},
		{"f2 e9 00 00 00 00", 6, FlowJump, ""}, // bnd jmp
		{"f2 c3", 2, FlowReturn, ""},           // bnd ret
		{"f3 c3", 2, FlowReturn, ""},           // rep ret
		{"c2 08 00", 3, FlowReturn, ""},
		{"e8 10 00 00 00", 5, FlowCall, ""},
		{"66 48 e8 10 00 00 00", 7, FlowCall, ""}, // general dynamic TLS
		{"ff 15 10 00 00 00", 6, FlowIndirectCall, ""},
		{"eb fe", 2, FlowJump, ""},
		{"75 10", 2, FlowCond, ""},
		{"0f 85 10 00 00 00", 6, FlowCond, ""},
		{"e3 02", 2, FlowCond, ""},
		{"67 e3 02", 3, FlowCond, ""},
		{"c7 f8 10 00 00 00", 6, FlowCond, ""}, // xbegin
		{"0f 05", 2, FlowSystem, "syscall"},
		{"cd 80", 2, FlowSystem, ""},
		{"0f 0b", 2, FlowTrap, "ud2"},
		{"f4", 1, FlowTrap, ""},
		{"48 b8 88 77 66 55 44 33 22 11", 10, FlowNext, ""},
		{"66 b8 34 12", 4, FlowNext, ""},
		{"48 a1 88 77 66 55 44 33 22 11", 10, FlowNext, ""}, // movabs moffs
		{"f6 c1 01", 3, FlowNext, ""},                       // test: immediate
		{"f6 d1", 2, FlowNext, ""},                          // not: none
		{"66 f7 c1 01 00", 5, FlowNext, ""},
		{"64 48 8b 04 25 28 00 00 00", 9, FlowNext, "mov %fs:0x28,%rax"},
		{"66 2e 0f 1f 84 00 00 00 00 00", 10, FlowNext, ""},
		{"48 66 90", 3, FlowNext, ""}, // a REX that is not right before the opcode
		{"66 0f 78 c0 01 02", 6, FlowNext, ""},
		{"c8 10 00 00", 4, FlowNext, ""},
		{"0f 20 c0", 3, FlowNext, ""}, // mov %cr0: mod is ignored
	} {
		code := append(unhex(t, c.code), bytes.Repeat([]byte{0xff}, MaxInstLen)...)
		i, err := Decode(code, 0x1000)
		if err != nil || i.Len != c.len || i.Flow != c.flow {
			t.Errorf("%s: length %d, flow %d, %v; want %d, %d", c.code, i.Len, i.Flow, err, c.len, c.flow)
		}
		if c.text != "" && i.String() != c.text {
			t.Errorf("%s: %q, want %q", c.code, i, c.text)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		code string
		want error
	}{
		{"", ErrTruncated},
		{"48", ErrTruncated},
		{"e8 00 00", ErrTruncated},
		{"48 8b", ErrTruncated},
		{"06", ErrUndecodable},                // push %es
		{"66 e8 00 00 00 00", ErrUndecodable}, // Intel and AMD disagree on its length
		{"66 74 00", ErrUndecodable},
		{"c5", ErrTruncated},
		{"48 c5 f8 77", ErrUndecodable},                    // REX before VEX
		{"62 f9 fe 48 6f 07", ErrUndecodable},              // APX bit
		{"c4 e9 78 77 00 00", ErrUndecodable},              // VEX map 9
		{strings.Repeat("66", 15) + " 90", ErrUndecodable}, // 16 bytes
	} {
		if i, err := Decode(unhex(t, c.code), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.code, i, err, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		code   string
		target address.Addr
		mem    address.Addr
	}{
		{"eb fe", 0x1000, 0},
		{"e9 fb ff ff ff", 0x1000, 0},
		{"0f 84 00 01 00 00", 0x1106, 0},
		{"e8 00 f0 ff ff", 0x5, 0},
		{"48 8d 05 10 00 00 00", 0, 0x1017},
		{"80 3d f9 ff ff ff 00", 0, 0x1000},          // cmpb $0, with an immediate behind the displacement
		{"62 f1 fe 48 6f 05 f6 ff ff ff", 0, 0x1000}, // EVEX does not scale a disp32
		{"c5 fb 10 05 f8 ff ff ff", 0, 0x1000},
	} {
		i, err := Decode(unhex(t, c.code), 0x1000)
		if err != nil || i.Target != c.target || i.Mem != c.mem || i.RIPRel != (c.mem != 0) {
			t.Errorf("%s: target %v, memory %v, %v; want %v, %v", c.code, i.Target, i.Mem, err, c.target, c.mem)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xf3, 0x0f, 0x1e, 0xfa})
	f.Add([]byte{0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x07})
	f.Add([]byte{0xc4, 0xe2, 0xf3, 0xf6, 0xc2})
	f.Fuzz(func(t *testing.T, code []byte) {
		i, err := Decode(code, 0x400000)
		if err != nil {
			return
		}
		if i.Len < 1 || i.Len > MaxInstLen || i.Len > len(code) {
			t.Fatalf("% x: length %d", code, i.Len)
		}
		again, err := Decode(code[:i.Len], 0x400000)
		if err != nil || again.Len != i.Len {
			t.Fatalf("% x: %d bytes, cut to them %d, %v", code, i.Len, again.Len, err)
		}
		_, _ = i.Effects(), i.String()
	})
}
