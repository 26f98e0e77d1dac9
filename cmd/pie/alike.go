package main

import (
	"fmt"

	"github.com/patch-integration-engine/pie/internal/term"
)

// alike is what is said in the same words of processes of one program. A server has
// a hundred workers; what a hundred lines say nobody reads.
type alike struct {
	exe, text string
	pids      []int
}

// alikes are what is said of processes, in the order in which it was first said.
type alikes []*alike

// say adds a process of which text is said.
func (s *alikes) say(pid int, exe, text string) {
	for _, a := range *s {
		if a.exe == exe && a.text == text {
			a.pids = append(a.pids, pid)
			return
		}
	}
	*s = append(*s, &alike{exe, text, []int{pid}})
}

// who is "pid 812 (redis-server)", or "pids 812 813 814 815 and 96 more (redis-server)".
// The program of a process that ended before it was looked at is not known.
func (s *alike) who() string {
	if s.exe == "" {
		return pidWords(s.pids)
	}
	return fmt.Sprintf("%s (%s)", pidWords(s.pids), term.Escape(baseName(s.exe)))
}

// pidWords is pidList with its noun.
func pidWords(pids []int) string {
	if len(pids) == 1 {
		return fmt.Sprintf("pid %d", pids[0])
	}
	return "pids " + pidList(pids)
}
