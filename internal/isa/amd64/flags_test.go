package amd64

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

func TestFlagsDead(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       bool
	}{
		{"add", "01 c8 74 00", true},
		{"mov; cmp", "89 c8 39 c8", true},
		{"je", "74 00", false},
		{"cmov", "0f 44 c1", false},
		{"adc", "11 c8", false},
		{"inc keeps CF, then jc", "ff c0 72 00", false},
		{"a shift by cl may keep all", "d3 e0 74 00", false},
		{"a shift by a constant", "c1 e0 03 74 00", true},
		{"lea keeps all, then sete", "48 8d 04 08 0f 94 c0", false},
		{"ret", "c3", true},
		{"call", "e8 00 00 00 00", true},
		{"jmp over je to add", "eb 02 74 00 01 c8", true},
		{"syscall", "0f 05", false},
		{"pushf", "9c", false},
		{"endless", "eb fe", false},
	} {
		if got := FlagsDead(unhex(t, c.code), 0x1000, 0x1000); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestFlagsRead(t *testing.T) {
	for _, c := range []struct {
		name, code string
		at         address.Addr // of the reader; 0 for none
	}{
		{"ret", "c3", 0},
		{"je", "74 00", 0x1000},
		{"mov; adc", "89 c8 11 c8 c3", 0x1002},
		{"cmp; adc", "39 c8 11 c8 c3", 0},
		{"test; jne to adc", "85 ff 75 01 c3 11 c8 c3", 0},
		{"jrcxz to adc", "e3 01 c3 11 c8 c3", 0x1003},
		{"jmp over ret to setc", "eb 01 c3 0f 92 c0 c3", 0x1003},
		{"inc; jz", "ff c0 74 00 c3", 0},
		{"inc; jc", "ff c0 72 00 c3", 0x1002},
		{"dec; ja", "ff cf 77 00 c3", 0x1002},
		{"dec; add; jc", "ff cf 01 c8 72 00 c3", 0},
		{"inc; rcl", "ff c0 d1 d2 c3", 0x1002},
		{"inc; adcx", "ff c0 66 0f 38 f6 c1 c3", 0x1002},
		{"inc; adox", "ff c0 f3 0f 38 f6 c1 c3", 0},
		{"adox", "f3 0f 38 f6 c1 c3", 0x1000},
		{"pushf", "55 9c 9d 5d c3", 0x1001},
		{"lahf", "9f c3", 0x1000},
		{"fucomi; jp", "db e8 7a 00 c3", 0},
		{"fucompp", "da e9 c3", 0},
		{"fcmovb", "da c1 c3", 0x1000},
		{"a call, then adc", "e8 00 00 00 00 11 c8 c3", 0},
		{"endless", "eb fe", 0},
		{"a loop of inc, then adc", "ff c0 e3 fc 11 c8 c3", 0x1004},
		{"does not decode", "06", 0},
	} {
		i, read := FlagsRead(unhex(t, c.code), 0x1000, 0x1000)
		if read != (c.at != 0) || read && i.Addr != c.at {
			t.Errorf("%s: %v at %v, want %v", c.name, read, i.Addr, c.at)
		}
	}
}
