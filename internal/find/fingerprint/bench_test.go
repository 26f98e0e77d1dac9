package fingerprint

import (
	"os"
	"testing"
)

// BenchmarkFind searches the file that PIE_BENCH_FILE names, or else the test's
// own program, reading it anew each time: what pfp find costs.
func BenchmarkFind(b *testing.B) {
	p := build(b, "-O2")
	fp := create(b, "parse_line", p.build("parse_line", false))
	path := os.Getenv("PIE_BENCH_FILE")
	if path == "" {
		path = "/proc/self/exe"
	}
	for b.Loop() {
		m, err := Analyze(openFile(b, path))
		if err != nil {
			b.Fatal(err)
		}
		m.Find(fp)
	}
}
