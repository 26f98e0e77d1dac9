package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An agent that is stopped takes connections and does not answer. Nobody waits for it,
// least of all who switches a guard off, and that it is so is said.
func TestAgentThatDoesNotAnswer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket) // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out bytes.Buffer
	a := &app{out: &out, err: &out, getenv: func(name string) string {
		if name == socketVariable {
			return socket
		}
		return ""
	}}
	begin := time.Now()
	if said := a.takeOver(context.Background(), "CVE-2024-31228"); !strings.Contains(said, "does not answer") || !strings.Contains(said, "CVE-2024-31228") {
		t.Errorf("switching off beside it says %q", said)
	}
	if took := time.Since(begin); took > 5*takeOverTime {
		t.Errorf("it was waited for for %v", took)
	}
	begin = time.Now()
	if a.printAgent(context.Background()); !strings.Contains(out.String(), "does not answer") {
		t.Errorf("status says %q", out.String())
	}
	if took := time.Since(begin); took > 5*lookTime {
		t.Errorf("it was waited for for %v", took)
	}
	l.Close()
	if said := a.takeOver(context.Background(), "CVE-2024-31228"); said != "" {
		t.Errorf("without an agent: %q", said)
	}
}
