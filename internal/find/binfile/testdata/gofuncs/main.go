// Command gofuncs has functions for Go's function table.
package main

import (
	"os"
	"strings"
)

type shouter struct{ n int }

//go:noinline
func (s *shouter) shout(what string) string {
	s.n++
	return strings.ToUpper(what)
}

//go:noinline
func tiny() int { return 7 }

func main() {
	s := &shouter{n: tiny()}
	os.Stdout.WriteString(s.shout("hello") + "\n")
}
