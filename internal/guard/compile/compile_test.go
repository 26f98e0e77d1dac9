package compile

import (
	"testing"

	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/source"
)

func TestSmoke(t *testing.T) {
	src := `package prepatch
import "github.com/patch-integration-engine/pie/libpie"
//pie:id CVE-2024-53580

//pie:guard exe=iperf3 lib=libc.so.6 func=strdup onfault=pass onfuel=pass
func Strdup(c *libpie.Call, s libpie.Addr) libpie.Verdict {
	if s == 0 {
		return libpie.Reject(libpie.Addr(0))
	}
	return libpie.Pass()
}

//pie:guard exe=iperf3 lib=libc.so.6 func=strdup onfault=pass onfuel=reject:-1
func B64(c *libpie.Call, debug int32, token libpie.Addr) libpie.Verdict {
	s, ok := c.CStr(token, 4096)
	if !ok || s.Len()%4 != 0 {
		return libpie.Reject(int32(-1))
	}
	for i := 0; i < s.Len(); i++ {
		if !isBase64(s.At(i)) {
			return libpie.Reject(int32(-1))
		}
	}
	return libpie.Pass()
}
func isBase64(b byte) bool {
	return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '+' || b == '/'
}
`
	files := map[string][]byte{"guard.go": []byte(src)}
	p, err := source.Parse("guard.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(p, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range c.Guards {
		t.Log(bpf.Disassemble(g.Unit.Insns), g.Unit.OnFault, g.Unit.OnFuel)
	}
}
