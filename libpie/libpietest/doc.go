// Package libpietest runs guards natively, as net/http/httptest runs handlers:
// in an ordinary Go test, against real memory.
//
//	func TestMatch(t *testing.T) {
//		p := libpietest.New(t)
//		pattern := p.Bytes([]byte(strings.Repeat("*?", 2000)))
//		if r := p.Run(Match, pattern, int32(4000)); !r.Rejected() {
//			t.Errorf("2000 stars: %v", r)
//		}
//		if r := p.Run(Match, p.Unmapped(), int32(4000)); !r.Faulted {
//			t.Errorf("unmapped pattern: %v", r)
//		}
//	}
//
// Memory handed out ends at an unmapped page, so that a guard that looks one
// byte too far faults in the test, too. Arguments travel as in a process: as
// words whose unused upper bytes are garbage.
//
// A fault or the end of fuel ends a guard natively as it does in a process, and
// is told by the Result; the verdict its directive asks for then, onfault or
// onfuel, stands in the prepatch. Differences that remain: loops cost no fuel
// natively (a guard that does not return fails the test after a while), and
// what libpie.GoVar names is a name, not two words.
package libpietest
