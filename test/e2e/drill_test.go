package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The drill of docs/drill.md: somebody who has never seen pie guards a named CVE
// in at most three commands, with nothing but the binary and what it says. The
// commands are those of the page, and so is what they answer, but for numbers.
func TestDrill(t *testing.T) {
	page, err := os.ReadFile("../../docs/drill.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(page), "```\n")
	block, _, ok2 := strings.Cut(block, "```")
	if !ok || !ok2 {
		t.Fatal("docs/drill.md has no transcript")
	}
	s := startRedis(t)
	attack := redisScenario.threats[0].attack
	var got strings.Builder
	commands := 0
	for line := range strings.Lines(block) {
		typed, isCommand := strings.CutPrefix(line, "# pie ")
		if !isCommand {
			continue
		}
		typed = "pie " + strings.TrimSpace(regexp.MustCompile(`--pid \d+`).ReplaceAllString(typed, "--pid "+strconv.Itoa(s.pid())))
		commands++
		got.WriteString("# " + typed + "\n" + onTerminal(t, typed))
	}
	if plain(got.String()) != plain(block) {
		t.Errorf("docs/drill.md says\n%s\nbut it is\n%s", block, got.String())
	}
	if commands > 3 {
		t.Errorf("%d commands", commands)
	}
	if err := attack(s.addr); err != nil || !s.alive() {
		t.Errorf("the attack after the drill: %v, alive: %v\n%s", err, s.alive(), tail(s.out.String()))
	}
}

// onTerminal runs a command as if it were typed, without colours.
func onTerminal(t *testing.T, typed string) string {
	t.Helper()
	cmd := exec.Command("script", "-qec", strings.Replace(typed, "pie", piePath, 1), "/dev/null")
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "PIE_AGENT_SOCKET="+t.TempDir()+"/none", "TERM=dumb")
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() != 2 {
		t.Fatalf("%s: %v\n%s", typed, err, out)
	}
	return string(bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n")))
}

var (
	progress = regexp.MustCompile(`(?m)^.*\r(\x1b\[K)?|\x1b\[[0-9;]*[A-Za-z]`)
	numbers  = regexp.MustCompile(`0x[0-9a-f]+|\d+(\.\d+)?`)
	folders  = regexp.MustCompile(`/\S*/`)
)

// plain leaves out what differs from run to run: numbers, folders, progress.
func plain(s string) string {
	s = progress.ReplaceAllString(s, "")
	s = folders.ReplaceAllString(s, "")
	s = numbers.ReplaceAllString(s, "N")
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(lines, "\n")
}
