package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The README's first command holds what it says: Run fails when any claim does
// not. The server is built once, from the Go module proxy, and kept with the
// other inputs of tests.
func TestDemo(t *testing.T) {
	cache := os.Getenv("PIE_TEST_CACHE")
	if cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, "pie-test")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := Run(ctx, Options{Dir: filepath.Join(cache, "demo"), Out: &out, Progress: func(string) {}})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, claim := range []string{
		"dead: panic: runtime error: makeslice: cap out of range; 8 of 8 clients lost their connection",
		"100 attacks rejected, each attacker disconnected",
		"equal the file's again, byte for byte",
		"0 lost, 0 wrong, 0 clients dropped",
	} {
		if !strings.Contains(out.String(), claim) {
			t.Errorf("the demo does not say %q:\n%s", claim, out.String())
		}
	}
}

// An interruption ends the servers.
func TestDemoInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := Start(ctx, "/bin/cat")
	if err == nil {
		t.Fatal("a server that never listens has started")
	}
	if s != nil {
		t.Errorf("got %+v with an error", s)
	}
}
